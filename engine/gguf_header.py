"""The head of a GGUF file: its metadata, and where each tensor lies. Knows bytes and bounds.

    "GGUF" version num_tensors num_metadata | metadata ... | tensor infos ... | padding | tensors

Refuses to know what the tensors are for. Every count and offset is held against the file's size
before it is followed, so a damaged file costs neither memory nor time. The format is described in
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Self

from .raw_file import DamageError, RawFile
from .weights import CorruptCheckpoint

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where one tensor lies. `type_name` is ggml's, such as Q4_K; `shape` has rows first."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    begin: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the head of one file says, all of it checked against the file's size."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the head of the file at `path`.

        Raises:
            CorruptCheckpoint: the file is no GGUF file, damaged, or shorter than its head says.
        """
        try:
            with RawFile(path) as file:
                return cls(*_Reader(file).header())
        except (OSError, ValueError) as error:
            raise CorruptCheckpoint(f"{path} is no usable GGUF file: {error}") from error


def gguf_package() -> Any:
    """Return the package that knows the types of such tensors; only who has such files needs it.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise ImportError(
            f"GGUF files need the package gguf (pip install gguf): {error}"
        ) from error
    return gguf


class _Reader:
    """Walks the bytes from the front. Nothing is taken that the file does not hold."""

    def __init__(self, file: RawFile) -> None:
        self._file = file
        self._place = 0

    def header(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        if self._bytes(len(_MAGIC)) != _MAGIC:
            raise DamageError(f"it does not begin with {_MAGIC.decode()}")
        version = self._scalar("<I")
        if version not in _VERSIONS:
            raise DamageError(f"its version must be one of {_VERSIONS}, got {version}")
        num_tensors, num_metadata = self._scalar("<Q"), self._scalar("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(num_metadata):
            key = self._string()
            if key in metadata:
                raise DamageError(f"the key {key!r} comes twice")
            metadata[key] = self._value(self._scalar("<I"))
        infos = [self._tensor_info() for _ in range(num_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise DamageError(f"general.alignment must be a power of two, got {alignment!r}")
        start = -(-self._place // alignment) * alignment
        return metadata, self._placed(infos, start)

    def _placed(
        self, infos: list[tuple[str, tuple[int, ...], int, int]], start: int
    ) -> dict[str, GgufTensor]:
        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in infos:
            if name in tensors:
                raise DamageError(f"the tensor {name!r} comes twice")
            type_name, num_bytes = _type_and_size(name, shape, kind)
            begin = start + offset
            if begin + num_bytes > self._file.num_bytes:
                raise DamageError(
                    f"the tensor {name!r} would end at byte {begin + num_bytes} of a file of "
                    f"{self._file.num_bytes}"
                )
            tensors[name] = GgufTensor(name, type_name, shape, begin, num_bytes)
        ordered = sorted(tensors.values(), key=lambda tensor: tensor.begin)
        for one, following in pairwise(ordered):
            if one.begin + one.num_bytes > following.begin:
                raise DamageError(f"the tensors {one.name!r} and {following.name!r} overlap")
        return tensors

    def _tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        name, num_dimensions = self._string(), self._scalar("<I")
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise DamageError(f"the tensor {name!r} has {num_dimensions} dimensions")
        shape = tuple(self._scalar("<Q") for _ in range(num_dimensions))
        if not all(shape):
            raise DamageError(f"the tensor {name!r} is empty: {list(shape)}")
        return name, shape[::-1], self._scalar("<I"), self._scalar("<Q")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            item_kind, count = self._scalar("<I"), self._scalar("<Q")
            if item_kind == _ARRAY:
                raise DamageError("arrays of arrays are not supported")
            if item_kind == _STRING:
                return [self._string() for _ in range(count)]
            return self._scalars(item_kind, count)
        return self._scalars(kind, 1)[0]

    def _scalars(self, kind: int, count: int) -> list[Any]:
        form = _SCALARS.get(kind)
        if form is None:
            raise DamageError(f"unknown type of metadata {kind} at byte {self._place}")
        raw = self._bytes(count * struct.calcsize(form))
        return [value for (value,) in struct.iter_unpack(form, raw)]

    def _string(self) -> str:
        return self._bytes(self._scalar("<Q")).decode("utf-8")

    def _scalar(self, form: str) -> int:
        (value,) = struct.unpack(form, self._bytes(struct.calcsize(form)))
        return value

    def _bytes(self, count: int) -> bytearray:
        taken = self._file.read(self._place, count)
        self._place += count
        return taken


def _type_and_size(name: str, shape: tuple[int, ...], kind: int) -> tuple[str, int]:
    """Return the type and bytes of a tensor, whose rows are whole blocks of its type."""
    gguf = gguf_package()
    try:
        found = gguf.GGMLQuantizationType(kind)
        values_per_block, bytes_per_block = gguf.GGML_QUANT_SIZES[found]
    except (ValueError, KeyError) as error:
        raise DamageError(f"the tensor {name!r} has an unknown type {kind}") from error
    if shape[-1] % values_per_block:
        raise DamageError(
            f"the rows of the tensor {name!r} have {shape[-1]} values, {found.name} packs "
            f"{values_per_block} at a time"
        )
    return found.name, prod(shape) // values_per_block * bytes_per_block
