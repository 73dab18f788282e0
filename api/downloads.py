"""Results as one file on this machine, written page by page. Knows no transport.

The file is there as a whole or not at all: until its end it has another name.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from .client_errors import InvalidInput
from .row_lines import json_line, plain_value
from .tables import need

if TYPE_CHECKING:
    import pyarrow as pa


class Download(Protocol):
    """A file that is being written."""

    def write(self, table: "pa.Table") -> None:
        """Append rows."""
        ...


def download_path(path: str | Path, job_id: str) -> Path:
    """Say where results go: to a file `.parquet` or `.jsonl`, or to one in a directory.

    Raises:
        InvalidInput: the suffix of the path names no format.
    """
    path = Path(path).expanduser()
    if not path.suffix or path.is_dir():
        return path / f"{job_id}.parquet"
    if path.suffix not in _FORMATS:
        raise InvalidInput(
            f"cannot write results as {path.name}: end it in {' or '.join(_FORMATS)}, or name a "
            "directory"
        )
    return path


@contextmanager
def open_download(path: Path) -> Iterator[Download]:
    """Write a file, which gets its name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            writer = _FORMATS[path.suffix](file)
            yield writer
            writer.end()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class _ParquetFile:
    """A row group for each page."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    def write(self, table: "pa.Table") -> None:
        if self._writer is None:
            parquet = need("pyarrow.parquet", "download")
            self._writer = parquet.ParquetWriter(self._file, table.schema, compression="zstd")
        if table.num_rows:
            self._writer.write_table(table)

    def end(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _JsonLines:
    """An object for each row; bytes are base64, as they are in a prompt."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, table: "pa.Table") -> None:
        for row in table.to_pylist():
            self._file.write(json_line(row, _plain))

    def end(self) -> None:
        """Do nothing: each line is whole."""


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, timedelta) else plain_value(value)


_FORMATS = {".parquet": _ParquetFile, ".jsonl": _JsonLines}
