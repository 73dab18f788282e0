"""A checkpoint on disk: safetensors files, read tensor by tensor and checked before use.

Knows files, headers, shapes and types. Refuses pickle, and to know what the tensors are for.
"""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

_FLOATS = {"F32", "F16", "BF16", "F64"}


class CorruptCheckpoint(ValueError):
    """The weights cannot be used; the message names the file and the reason."""


class Checkpoint:
    """The tensors of one model directory, by name. Use as a context manager.

    Files are memory-mapped; a tensor is copied only when it is read, so a checkpoint of any
    size needs room for the model and one tensor.

    Raises:
        CorruptCheckpoint: on opening, when a file is missing, truncated or not safetensors, or
            when it is not clear which file a tensor is to be read from.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open_files = ExitStack()
        self._files: dict[str, Any] = {}
        self._home_of: dict[str, str] = {}
        self._unread: set[str] = set()

    def __enter__(self) -> Self:
        """Open every file and read the headers."""
        try:
            index = self._index()
            for file_name in self._file_names() if index is None else sorted({*index.values()}):
                self._open(file_name, index or {})
        except BaseException:
            self._open_files.close()
            raise
        self._unread = set(self._home_of)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the files; what was read stays valid."""
        self._files.clear()
        self._open_files.close()

    def require(self, names: Iterable[str]) -> None:
        """Check that all these tensors are there.

        Raises:
            CorruptCheckpoint: some are missing; the message names them.
        """
        missing = [name for name in names if name not in self._home_of]
        if missing:
            raise CorruptCheckpoint(
                f"{self._directory} lacks {len(missing)} tensors of the model: {_listed(missing)}"
            )

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return the tensor called `name`, converted to `dtype`, in ordinary memory.

        Raises:
            CorruptCheckpoint: it is not there, has another shape, or does not hold real numbers.
        """
        self.require([name])
        file_name = self._home_of[name]
        header = self._files[file_name].get_slice(name)
        found = tuple(header.get_shape())
        if found != shape:
            raise CorruptCheckpoint(
                f"{self._directory / file_name}: tensor {name} has shape {list(found)}, "
                f"config.json asks for {list(shape)}"
            )
        if header.get_dtype() not in _FLOATS:
            raise CorruptCheckpoint(
                f"{self._directory / file_name}: tensor {name} has type {header.get_dtype()}, "
                f"expected one of {', '.join(sorted(_FLOATS))}"
            )
        self._unread.discard(name)
        # A copy in any case: a tensor that stays in the mapped file dies with whoever rewrites it.
        return self._files[file_name].get_tensor(name).to(dtype, copy=True)

    def ignore(self, names: Iterable[str]) -> None:
        """Let these tensors go unread: copies of others, or buffers computed anew."""
        self._unread.difference_update(names)

    def require_all_read(self) -> None:
        """Check that nothing in the checkpoint was left over.

        Raises:
            CorruptCheckpoint: the model has no place for some tensors, so it is not this model.
        """
        if self._unread:
            raise CorruptCheckpoint(
                f"{self._directory} holds {len(self._unread)} tensors the model has no place for: "
                f"{_listed(sorted(self._unread))}"
            )

    def _index(self) -> dict[str, str] | None:
        """Return which file holds which tensor, None if there is just one file."""
        path = self._directory / "model.safetensors.index.json"
        if not path.is_file():
            return None
        try:
            index = json.loads(path.read_text("utf-8"))["weight_map"]
            if not all(isinstance(file_name, str) for file_name in index.values()):
                raise TypeError("weight_map must hold names of files")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptCheckpoint(f"{path} is no index of safetensors files: {error}") from error
        return index

    def _file_names(self) -> list[str]:
        if (self._directory / "model.safetensors").is_file():
            return ["model.safetensors"]
        others = sorted(path.name for path in self._directory.glob("*.bin"))
        hint = f"; {_listed(others)} would need pickle, convert it first" if others else ""
        raise CorruptCheckpoint(f"{self._directory} holds no model.safetensors{hint}")

    def _open(self, file_name: str, index: dict[str, str]) -> None:
        path = self._directory / file_name
        if Path(file_name).name != file_name or not path.is_file():
            raise CorruptCheckpoint(f"{path} is named by the index but is not there")
        try:
            file = self._open_files.enter_context(safe_open(path, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise CorruptCheckpoint(f"{path} is damaged or incomplete: {error}") from error
        self._files[file_name] = file
        for name in file.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
            other = self._home_of.get(name) or index.get(name, file_name)
            if other != file_name:
                raise CorruptCheckpoint(
                    f"{path} holds the tensor {name}, which is also in {other} or expected there"
                )
            self._home_of[name] = file_name


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
