"""A checkpoint on disk: safetensors files, read tensor by tensor and checked before use.

Knows files, headers, shapes and types. Refuses pickle, and to know what the tensors are for.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Protocol, Self

import torch

from .raw_file import DamageError
from .safetensors_file import FLOATS, SafetensorsFile

# What a model expects of a checkpoint: names, and better still the shapes that belong to them.
Expected = Iterable[str] | Mapping[str, tuple[int, ...]]


class CorruptCheckpoint(ValueError):
    """The weights cannot be used; the message names the file and the reason."""


class Weights(Protocol):
    """What a model asks of its weights, in whatever files they lie; see `Checkpoint`."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        ...

    def require(self, tensors: Expected) -> None:
        """Check that these are there and what they should be."""
        ...

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return one tensor."""
        ...

    def ignore(self, names: Iterable[str]) -> None:
        """Let these go unread."""
        ...

    def ignore_parts(self, prefixes: tuple[str, ...]) -> None:
        """Let those go unread whose names begin so."""
        ...

    def require_all_read(self) -> None:
        """Check that nothing was left over."""
        ...


class Checkpoint:
    """The tensors of one model directory, by name. Use as a context manager.

    On opening only the headers are read, and a tensor when it is asked for; so a checkpoint of any
    size needs room for the model and one tensor.

    Raises:
        CorruptCheckpoint: on opening, when a file is missing, truncated or not safetensors, or
            when it is not clear which file a tensor is to be read from.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open_files = ExitStack()
        self._files: dict[str, SafetensorsFile] = {}
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

    def __exit__(self, *_: object) -> None:
        """Close the files; what was read stays valid."""
        self._files.clear()
        self._open_files.close()

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._home_of

    @property
    def files(self) -> Mapping[str, SafetensorsFile]:
        """The open files, by their names."""
        return self._files

    @property
    def num_elements(self) -> int:
        """Numbers in all tensors together."""
        files = self._files.values()
        return sum(prod(tensor.shape) for file in files for tensor in file.tensors.values())

    def require(self, tensors: Expected) -> None:
        """Check that all these tensors are there; with shapes, that each is what is expected.

        Raises:
            CorruptCheckpoint: some are missing, have another shape, or hold no real numbers; the
                message names them.
        """
        missing = [name for name in tensors if name not in self]
        if missing:
            raise CorruptCheckpoint(
                f"{self._directory} lacks {len(missing)} tensors of the model: {listed(missing)}"
            )
        if isinstance(tensors, Mapping):
            for name, shape in tensors.items():
                self._check(name, shape)

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return the tensor called `name`, converted to `dtype`, in ordinary memory.

        Raises:
            CorruptCheckpoint: it is not there, has another shape, or does not hold real numbers.
        """
        self.require({name: shape})
        self._unread.discard(name)
        file_name = self._home_of[name]
        try:
            return self._files[file_name].read(name).to(dtype)
        except (DamageError, OSError) as error:
            raise CorruptCheckpoint(f"{self._directory / file_name} is damaged: {error}") from error

    def ignore(self, names: Iterable[str]) -> None:
        """Let these tensors go unread: copies of others, or buffers computed anew."""
        self._unread.difference_update(names)

    def ignore_parts(self, prefixes: tuple[str, ...]) -> None:
        """Let tensors whose names begin so go unread: parts that the engine does not run."""
        self.ignore([name for name in self._unread if name.startswith(prefixes)])

    def require_all_read(self) -> None:
        """Check that nothing in the checkpoint was left over.

        Raises:
            CorruptCheckpoint: the model has no place for some tensors, so it is not this model.
        """
        if self._unread:
            raise CorruptCheckpoint(
                f"{self._directory} holds {len(self._unread)} tensors the model has no place for: "
                f"{listed(sorted(self._unread))}"
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
        hint = f"; {listed(others)} would need pickle, convert it first" if others else ""
        raise CorruptCheckpoint(f"{self._directory} holds no model.safetensors{hint}")

    def _open(self, file_name: str, index: dict[str, str]) -> None:
        path = self._directory / file_name
        if Path(file_name).name != file_name or not path.is_file():
            raise CorruptCheckpoint(f"{path} is named by the index but is not there")
        try:
            file = self._open_files.enter_context(SafetensorsFile(path))
        except (DamageError, OSError) as error:
            raise CorruptCheckpoint(f"{path} is damaged or incomplete: {error}") from error
        self._files[file_name] = file
        for name in file.tensors:
            other = self._home_of.get(name) or index.get(name, file_name)
            if other != file_name:
                raise CorruptCheckpoint(
                    f"{path} holds the tensor {name}, which is also in {other} or expected there"
                )
            self._home_of[name] = file_name

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        file_name = self._home_of[name]
        stored = self._files[file_name].tensors[name]
        path = self._directory / file_name
        if stored.shape != shape:
            raise CorruptCheckpoint(
                f"{path}: tensor {name} has shape {list(stored.shape)}, "
                f"config.json asks for {list(shape)}"
            )
        if stored.dtype not in FLOATS:
            raise CorruptCheckpoint(
                f"{path}: tensor {name} has type {stored.dtype}, "
                f"expected one of {', '.join(FLOATS)}"
            )


def listed(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
