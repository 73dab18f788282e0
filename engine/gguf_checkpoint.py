"""The weights of a GGUF file under their Hugging Face names, dequantized one by one.

Knows how llama.cpp names, packs and rearranges what `transformers` saves. Refuses to know what the
tensors are for. It stands in for `Checkpoint`, so a model is built from it in the same way.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from .gguf_header import GgufHeader, GgufTensor, gguf_package
from .raw_file import DamageError, RawFile
from .weights import CorruptCheckpoint, Expected, listed

_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_BUFFERS = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
_NO_WEIGHTS = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}  # nothing that gguf dequantizes
_OFFSET_NORMS = {"gemma2", "gemma3"}  # whose converter adds the 1 of (1 + weight)


@dataclass(frozen=True, slots=True)
class _Home:
    """Where a tensor is found: a tensor of the file, of which `expert` is one slice."""

    tensor: GgufTensor
    expert: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape if self.expert is None else self.tensor.shape[1:]


class GgufCheckpoint:
    """The tensors of one GGUF file, by the names that `Checkpoint` would have. A context manager.

    Raises:
        CorruptCheckpoint: on opening, when the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open_file = ExitStack()
        self._header = GgufHeader({}, {})
        self._unread: set[str] = set()

    def __enter__(self) -> Self:
        """Open the file and read its head."""
        self._header = GgufHeader.read(self._path)
        self._file = self._open_file.enter_context(RawFile(self._path))
        self._our_name = _name_map(self._header)
        num_heads = self._header.metadata.get(f"{self._architecture}.attention.head_count", 1)
        num_kv_heads = self._header.metadata.get(
            f"{self._architecture}.attention.head_count_kv", num_heads
        )
        self._num_heads = {"attn_q": num_heads, "attn_k": num_kv_heads}
        self._unread = self._header.tensors.keys() - _BUFFERS
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; what was read stays valid."""
        self._open_file.close()

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return self._find(name) is not None

    def require(self, tensors: Expected) -> None:
        """See `Checkpoint.require`.

        Raises:
            CorruptCheckpoint: some are missing, have another shape or a type without real numbers.
        """
        missing = [name for name in tensors if name not in self]
        if missing:
            raise CorruptCheckpoint(
                f"{self._path} lacks {len(missing)} tensors of the model: {listed(missing)}"
            )
        if isinstance(tensors, Mapping):
            for name, shape in tensors.items():
                self._checked(name, shape)

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return the tensor called `name`, dequantized and converted to `dtype`.

        Raises:
            CorruptCheckpoint: it is not there, has another shape, or cannot be dequantized.
        """
        self.require([name])
        home = self._checked(name, shape)
        self._unread.discard(home.tensor.name)
        values = self._dequantized(home).reshape(shape)
        return torch.from_numpy(self._as_saved(home.tensor.name, values)).to(dtype, copy=True)

    def ignore(self, names: Iterable[str]) -> None:
        """See `Checkpoint.ignore`."""
        homes = [self._find(name) for name in names]
        self._unread.difference_update(home.tensor.name for home in homes if home is not None)

    def ignore_parts(self, prefixes: tuple[str, ...]) -> None:
        """See `Checkpoint.ignore_parts`; llama.cpp keeps such parts in files of their own."""

    def require_all_read(self) -> None:
        """See `Checkpoint.require_all_read`.

        Raises:
            CorruptCheckpoint: the model has no place for some tensors, so it is not this model.
        """
        if self._unread:
            raise CorruptCheckpoint(
                f"{self._path} holds {len(self._unread)} tensors the model has no place for: "
                f"{listed(sorted(self._unread))}"
            )

    @property
    def _architecture(self) -> str:
        return str(self._header.metadata.get("general.architecture"))

    def _find(self, name: str) -> _Home | None:
        expert = _EXPERT.search(name)
        stem, _, ending = _EXPERT.sub(".experts.", name).rpartition(".")
        tensor = self._header.tensors.get(f"{self._our_name(stem)}.{ending}")
        if tensor is None:
            return None
        return _Home(tensor, int(expert[1]) if expert else None)

    def _checked(self, name: str, shape: tuple[int, ...]) -> _Home:
        home = self._find(name)
        assert home is not None  # `require` has seen to that
        if home.shape != shape or (home.expert or 0) >= home.tensor.shape[0]:
            raise CorruptCheckpoint(
                f"{self._path}: tensor {home.tensor.name} has shape {list(home.tensor.shape)}, "
                f"its metadata asks for {list(shape)}"
            )
        if home.tensor.type_name in _NO_WEIGHTS:
            raise CorruptCheckpoint(
                f"{self._path}: tensor {home.tensor.name} has type {home.tensor.type_name}, which "
                "holds no weights or cannot be dequantized"
            )
        return home

    def _dequantized(self, home: _Home) -> np.ndarray:
        gguf = gguf_package()
        tensor = home.tensor
        num_parts = tensor.shape[0] if home.expert is not None else 1
        num_bytes = tensor.num_bytes // num_parts
        kind = gguf.GGMLQuantizationType[tensor.type_name]
        try:
            raw = self._file.read(tensor.begin + num_bytes * (home.expert or 0), num_bytes)
            return gguf.dequantize(np.frombuffer(raw, np.uint8), kind)
        except (DamageError, OSError) as error:
            raise CorruptCheckpoint(f"{self._path} is damaged: {error}") from error

    def _as_saved(self, name: str, values: np.ndarray) -> np.ndarray:
        """Undo what llama.cpp's converter does to the values of a tensor."""
        part = name.split(".")[-2]
        if self._architecture == "llama" and part in self._num_heads:
            # Neighbours turn together there, the two halves of a head turn together here.
            pairs = values.reshape(
                self._num_heads[part] or self._num_heads["attn_q"], -1, 2, *values.shape[1:]
            )
            return pairs.swapaxes(1, 2).reshape(values.shape)
        if self._architecture in _OFFSET_NORMS and part.endswith("norm"):
            return values - 1.0
        return values


def _name_map(header: GgufHeader) -> Callable[[str], str | None]:
    """Return a function from our names to those of the file, both without their endings."""
    gguf = gguf_package()
    architecture = header.metadata.get("general.architecture")
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    num_layers = header.metadata[f"{architecture}.block_count"]
    return gguf.get_tensor_name_map(kind, num_layers).get_name
