"""Where a job's rows come from. Names places; `inputs` reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True, slots=True)
class PathSource:
    """An input file on this machine, or an object in a store: `s3://bucket/key`."""

    path: str | Path


@dataclass(frozen=True, slots=True)
class RowsSource:
    """Rows in memory."""

    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FileSource:
    """An open, seekable binary file; its name tells the format."""

    file: BinaryIO
    filename: str = ""


@dataclass(frozen=True, slots=True)
class NamedFileSource:
    """A file on this machine that is called something else; its name tells the format."""

    path: Path
    filename: str


Source = PathSource | RowsSource | FileSource | NamedFileSource
