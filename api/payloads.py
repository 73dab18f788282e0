"""A job's rows as one binary file that can be sent, and sent again. Knows no transport.

Whatever the caller holds (a path, dicts, a data frame) becomes a file: paths are sent as they are,
everything else is spooled, so a generator of ten million rows never sits in memory.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, runtime_checkable

from .client_errors import InvalidInput, MissingPackage

_SPOOL_BYTES = 16 << 20  # smaller payloads stay in memory


@runtime_checkable
class ArrowStream(Protocol):
    """A table by the Arrow C stream protocol: pyarrow, polars, pandas, DuckDB and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the table."""
        ...


JobInput: TypeAlias = str | Path | Iterable[Mapping[str, Any]] | ArrowStream


@dataclass(frozen=True, slots=True)
class Upload:
    """An open binary file and the name that tells its format."""

    filename: str
    file: IO[bytes]


@dataclass(frozen=True, slots=True)
class Remote:
    """Rows in an object store, as in `s3://bucket/rows.parquet`: the server fetches them."""

    url: str


def is_remote(rows: object) -> bool:
    """Whether rows, or a place for them, are in an object store."""
    return isinstance(rows, str) and rows.startswith("s3://")


@contextmanager
def open_upload(rows: JobInput) -> Iterator[Upload | Remote]:
    """Open the rows as a file for as long as the block lasts, unless the server fetches them.

    Raises:
        InvalidInput: the file cannot be read, or a row is not a mapping of JSON values.
        MissingPackage: a data frame is given, and pyarrow is not installed.
    """
    if isinstance(rows, str) and is_remote(rows):
        yield Remote(rows)
        return
    if isinstance(rows, str | Path):
        with _open_path(Path(rows).expanduser()) as file:
            yield Upload(Path(rows).name, file)
        return
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
        if isinstance(rows, ArrowStream):
            filename = "rows.parquet"
            _write_parquet(rows, spool)
        else:
            filename = "rows.jsonl"
            _write_jsonl(rows, spool)
        spool.seek(0)
        yield Upload(filename, spool)


def _open_path(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error


def _write_jsonl(rows: Iterable[Mapping[str, Any]], file: IO[bytes]) -> None:
    number = 0
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise InvalidInput(f"row {number} must be a mapping, got {type(row).__name__}")
        try:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            file.write(line.encode("utf-8") + b"\n")
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"row {number} cannot be written as JSON: {error}") from error
    if number == 0:
        raise InvalidInput("there are no rows to send; give a path or at least one dict")


def _write_parquet(table: ArrowStream, file: IO[bytes]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingPackage(
            "sending a data frame needs pyarrow: pip install pyarrow, or pass a list of dicts"
        ) from error
    reader = pa.RecordBatchReader.from_stream(table)
    with pq.ParquetWriter(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
