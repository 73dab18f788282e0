"""Which version of a model this is: equal for equal files, another where answers may be others.

Knows files, names and bytes, and what a model is run in. Refuses to look at dates, and to read all
of the weights: of a large model it reads some blocks of each tensor.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path

import torch

from .gguf_header import GgufHeader
from .raw_file import DamageError, RawFile
from .weights import Checkpoint, CorruptCheckpoint

BLOCK_BYTES = 1024
MAX_BLOCKS = 4096  # in all; at least one of each tensor

_DIGEST_BYTES = 12
_TEMPLATES = ("*.jinja", "additional_chat_templates/*.jinja")
_BESIDE_SAFETENSORS = ("*.json", "*.txt", "*.model", "*.tiktoken", *_TEMPLATES)
# The tokenizer inside a GGUF file is configured by files beside it, if there are any.
_BESIDE_GGUF = ("*token*.json", "chat_template.json", *_TEMPLATES)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file: [begin, begin + num_bytes)."""

    begin: int
    num_bytes: int


def served_revision(
    model: Path, dtype: torch.dtype, *, quantization: str = "none", kv_cache_dtype: str = "auto"
) -> str:
    """Return the revision of a checkpoint that is run in `dtype`; options as in `EngineConfig`.

    Raises:
        CorruptCheckpoint, OSError: see `checkpoint_revision`.
    """
    numbers = [str(dtype).removeprefix("torch.")]
    if quantization != "none":
        numbers.append(quantization)
    if kv_cache_dtype != "auto":
        numbers.append(f"kv_{kv_cache_dtype}")
    return "-".join([checkpoint_revision(model), *numbers])


def checkpoint_revision(model: Path) -> str:
    """Return the revision of a checkpoint: of a directory, or of a GGUF file.

    It is another one where a byte of the configuration, tokenizer, chat template or a weights
    file's header differs, and where tensors were trained on. A change of a few numbers of a large
    tensor may escape it, but not in the cache of the Hugging Face hub, which names files by hash.

    Raises:
        CorruptCheckpoint: the weights are damaged.
        OSError: a file cannot be read.
    """
    digest = blake2b(digest_size=_DIGEST_BYTES)
    directory = model if model.is_dir() else model.parent
    patterns = _BESIDE_SAFETENSORS if model.is_dir() else _BESIDE_GGUF
    for path in sorted({path for pattern in patterns for path in directory.glob(pattern)}):
        if path.is_file():
            with path.open("rb") as file:
                content = file_digest(file, "blake2b").hexdigest()
            digest.update(f"{path.relative_to(directory).as_posix()} {content}\n".encode())
    weights = _safetensors(model) if model.is_dir() else {model: _gguf(model)}
    num_blocks = _num_blocks([tensor for tensors in weights.values() for tensor in tensors])
    for path, tensors in weights.items():
        digest.update(f"{path.name} {path.stat().st_size} {_hub_hash(path)}\n".encode())
        for piece in _read(path, (_header(path, tensors), *sampled(tensors, num_blocks))):
            digest.update(piece)
    return digest.hexdigest()


def sampled(tensors: Iterable[Extent], num_blocks: int) -> Iterator[Extent]:
    """Choose what to read of tensors: the same number of blocks of each, evenly spread."""
    for tensor in tensors:
        if tensor.num_bytes <= num_blocks * BLOCK_BYTES:
            yield tensor
            continue
        room = tensor.num_bytes - BLOCK_BYTES
        for index in range(num_blocks):
            place = room * (2 * index + 1) // (2 * num_blocks)
            yield Extent(tensor.begin + place, BLOCK_BYTES)


def _num_blocks(tensors: Sequence[Extent]) -> int:
    """Return how many blocks of each tensor are read; of a small model all of them."""
    if sum(tensor.num_bytes for tensor in tensors) <= MAX_BLOCKS * BLOCK_BYTES:
        return MAX_BLOCKS
    return max(1, MAX_BLOCKS // len(tensors))


def _safetensors(directory: Path) -> dict[Path, Sequence[Extent]]:
    """Find the tensors of every weights file that the engine reads."""
    with Checkpoint(directory) as checkpoint:
        return {
            directory / name: [
                Extent(tensor.begin, tensor.end - tensor.begin) for tensor in file.tensors.values()
            ]
            for name, file in sorted(checkpoint.files.items())
        }


def _gguf(path: Path) -> Sequence[Extent]:
    tensors = GgufHeader.read(path).tensors.values()
    return [Extent(tensor.begin, tensor.num_bytes) for tensor in tensors]


def _header(path: Path, tensors: Sequence[Extent]) -> Extent:
    """Return what comes before the first tensor."""
    return Extent(0, min((each.begin for each in tensors), default=path.stat().st_size))


def _hub_hash(path: Path) -> str:
    """Return the hash of a file in a snapshot of the hub's cache: what it links to is named so."""
    is_snapshot = path.parent.parent.name == "snapshots" and path.is_symlink()
    return path.readlink().name if is_snapshot else ""


def _read(path: Path, extents: Iterable[Extent]) -> Iterator[bytearray]:
    try:
        with RawFile(path) as file:
            for extent in extents:
                yield file.read(extent.begin, extent.num_bytes)
    except DamageError as error:
        raise CorruptCheckpoint(f"{path} is damaged: {error}") from error
