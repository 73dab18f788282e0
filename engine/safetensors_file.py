"""One safetensors file: its header, checked against its size, and its tensors, read one by one.

    num_header_bytes (8 bytes) | header (JSON: name -> dtype, shape, data_offsets) | tensors

Refuses to know what the tensors are for. The format: https://huggingface.co/docs/safetensors.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from .raw_file import DamageError, RawFile

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # as the safetensors library has it
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2,
    "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies: `begin` and `end` are bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """An open file. Its header has been checked once it is open.

    Attributes:
        tensors: what it holds, by name.

    Raises:
        DamageError: the file is not what a safetensors file should be.
        OSError: it cannot be read at all.
    """

    def __init__(self, path: Path) -> None:
        self._file = RawFile(path)
        self.tensors: dict[str, StoredTensor] = {}

    def __enter__(self) -> Self:
        """Read the header."""
        try:
            self.tensors = self._header()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.__exit__(kind, error, _)

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor, whose type is one of `FLOATS`, in memory of its own.

        Raises:
            DamageError: the file has become shorter.
        """
        stored = self.tensors[name]
        tensor = torch.empty(stored.shape, dtype=FLOATS[stored.dtype])
        if tensor.numel():
            self._file.fill(tensor.view(-1).view(torch.uint8).numpy().data, stored.begin)
        return tensor

    def _header(self) -> dict[str, StoredTensor]:
        num_bytes = self._file.num_bytes
        length = int.from_bytes(self._file.read(0, _LENGTH_BYTES), "little")
        start = _LENGTH_BYTES + length
        if start > num_bytes or length > _MAX_HEADER_BYTES:
            raise DamageError(
                f"it announces a header of {length} bytes, the file has {num_bytes} in all"
            )
        try:
            header = json.loads(self._file.read(_LENGTH_BYTES, length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            tensors = {name: _stored(name, entry, start) for name, entry in entries.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamageError(f"its header cannot be read: {error}") from error
        _refuse_gaps(tensors, start, num_bytes)
        return tensors


def _stored(name: str, entry: dict[str, Any], start: int) -> StoredTensor:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise DamageError(f"tensor {name} has a shape or place that is no whole number")
    item_bytes = _ITEM_BYTES.get(dtype)
    if item_bytes is None:
        raise DamageError(f"tensor {name} has the unknown type {dtype!r}")
    if end - begin != prod(shape) * item_bytes:
        raise DamageError(
            f"tensor {name} of type {dtype} and shape {list(shape)} would lie in "
            f"{end - begin} bytes"
        )
    return StoredTensor(dtype, shape, start + begin, start + end)


def _refuse_gaps(tensors: dict[str, StoredTensor], start: int, num_bytes: int) -> None:
    """Hold that the tensors cover the rest of the file, without a gap and without overlapping."""
    place = start
    for name, stored in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if stored.begin != place:
            raise DamageError(
                f"tensor {name} begins at byte {stored.begin}, where byte {place} is next"
            )
        place = stored.end
    if place != num_bytes:
        raise DamageError(f"its tensors end at byte {place}, the file at byte {num_bytes}")
