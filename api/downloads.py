"""Results as one file on this machine, written page by page. Knows no transport."""

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from .client_errors import InvalidInput
from .home_path import at_home
from .row_lines import json_line, plain_value
from .tables import need
from .whole_file import whole_file

if TYPE_CHECKING:
    import pyarrow as pa


class Download(Protocol):
    """A file that is being written."""

    def write(self, table: "pa.Table") -> None:
        """Append rows."""
        ...


def download_path(path: str | Path, name: str) -> Path:
    """Say where results go: to a file `.parquet` or `.jsonl`, or to one in a directory.

    Every other path is a directory's, there or not: `out`, `out/v1.2`, `rows.parquet/`.

    Raises:
        InvalidInput: it looks like a file of a format that is not written here, or is in nobody's
            home directory.
    """
    is_slashed = str(path).endswith(_SLASHES)
    path = at_home(path)
    if not is_slashed and not path.is_dir():
        if path.suffix in _FORMATS:
            return path
        if path.suffix.lower() in _OTHER_FORMATS:
            raise InvalidInput(
                f"cannot write results as {path.name}: end it in {' or '.join(_FORMATS)}, or in "
                f"a slash, {path.name}/, for a directory"
            )
    return path / f"{name}.parquet"


@contextmanager
def open_download(path: Path) -> Iterator[Download]:
    """Write a file, which is there as a whole when the block ends well, or not at all."""
    with whole_file(path) as file:
        writer = _FORMATS[path.suffix](file)
        try:
            yield writer
            writer.end()
        except BaseException:
            with suppress(Exception):  # the first error tells more
                writer.end()  # while there is its file: nobody can end it later
            raise


class _ParquetFile:
    """A row group for each page."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    def write(self, table: "pa.Table") -> None:
        if table.num_columns:  # of a run, before anything has landed, there are none
            self._begin(table.schema)
            if table.num_rows:
                self._writer.write_table(table)

    def end(self) -> None:
        self._begin(need("pyarrow", "download").schema([]))
        self._writer.close()

    def _begin(self, schema: "pa.Schema") -> None:
        if self._writer is None:
            parquet = need("pyarrow.parquet", "download")
            self._writer = parquet.ParquetWriter(self._file, schema, compression="zstd")


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


_SLASHES = ("/", os.sep)
_FORMATS = {".parquet": _ParquetFile, ".jsonl": _JsonLines}
_OTHER_FORMATS = (".arrow", ".csv", ".feather", ".gz", ".json", ".ndjson", ".tsv", ".txt", ".xlsx")
