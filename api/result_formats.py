"""Pages of landed rows as bytes: JSON, JSON lines, an Arrow stream or Parquet. Knows no HTTP.

The last two are one file over however many pages: it begins with the first, and `end` closes it.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ..jobs.model import JobSpec
from ..jobs.results import Page
from .column_types import restored
from .errors import InvalidRequest, shown

GROUP_ROWS = 64_000  # are worth a row group of Parquet, and so are so many bytes in memory
GROUP_BYTES = 32 << 20

ResultFormat = Literal["jsonl", "json", "arrow", "parquet"]

MEDIA_TYPES: dict[ResultFormat, str] = {
    "jsonl": "application/x-ndjson",
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


class ResultEncoder(Protocol):
    """Writes pages, one behind the other."""

    def write(self, page: Page) -> bytes:
        """Return what a page adds."""
        ...

    def end(self) -> bytes:
        """Return what stands behind the last page."""
        ...


def result_encoder(
    format: ResultFormat, spec: JobSpec, columns: Sequence[str] | None
) -> ResultEncoder:
    """Return what writes the rows of a job, all their columns or some."""
    match format:
        case "jsonl":
            return _Lines(columns)
        case "json":
            return _Document(columns)
        case "arrow":
            return _ArrowStream(spec, columns)
        case "parquet":
            return _ParquetFile(spec, columns)


class _Lines:
    """A JSON object per line."""

    def __init__(self, columns: Sequence[str] | None) -> None:
        self._columns = columns

    def write(self, page: Page) -> bytes:
        rows = _selected(page.table, self._columns).to_pylist()
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)

    def end(self) -> bytes:
        return b""


class _Document:
    """One JSON object, of one page."""

    def __init__(self, columns: Sequence[str] | None) -> None:
        self._columns = columns

    def write(self, page: Page) -> bytes:
        return msgspec.json.encode(
            {
                "object": "list",
                "data": _selected(page.table, self._columns).to_pylist(),
                "has_more": page.next_cursor is not None,
                "next_cursor": page.next_cursor,
                "incomplete": page.incomplete,
            }
        )

    def end(self) -> bytes:
        return b""


class _Table:
    """What the two kinds of tables have in common: what is written gathers, and is fetched."""

    def __init__(self, spec: JobSpec, columns: Sequence[str] | None) -> None:
        self._spec = spec
        self._columns = columns
        self._written = _Written()

    def _typed(self, page: Page) -> pa.Table:
        table = _selected(page.table, self._columns).replace_schema_metadata()
        return restored(table, self._spec.arrow_schema).combine_chunks()


class _ArrowStream(_Table):
    """Arrow's streaming format."""

    _writer: pa.RecordBatchStreamWriter | None = None

    def write(self, page: Page) -> bytes:
        table = self._typed(page)
        writer = self._writer or pa.ipc.new_stream(self._written.sink, table.schema)
        self._writer = writer
        writer.write_table(table)
        return self._written.take()

    def end(self) -> bytes:
        if self._writer is not None:
            self._writer.close()
        return self._written.take()


class _ParquetFile(_Table):
    """A Parquet file; pages gather until they are worth a row group, which costs its metadata."""

    _writer: pq.ParquetWriter | None = None

    def __init__(self, spec: JobSpec, columns: Sequence[str] | None) -> None:
        super().__init__(spec, columns)
        self._gathered: list[pa.Table] = []
        self._num_rows = self._num_bytes = 0

    def write(self, page: Page) -> bytes:
        table = self._typed(page)
        self._writer = self._writer or pq.ParquetWriter(
            self._written.sink, table.schema, compression="zstd", write_page_checksum=True
        )
        if table.num_rows:
            self._gathered.append(table)
            self._num_rows += table.num_rows
            self._num_bytes += table.get_total_buffer_size()  # a slice keeps all it was cut from
        if self._num_rows >= GROUP_ROWS or self._num_bytes >= GROUP_BYTES:
            self._write_group(self._writer)
        return self._written.take()

    def end(self) -> bytes:
        if self._writer is not None:
            self._write_group(self._writer)
            self._writer.close()
        return self._written.take()

    def _write_group(self, writer: pq.ParquetWriter) -> None:
        if self._gathered:
            writer.write_table(pa.concat_tables(self._gathered))
            self._gathered, self._num_rows, self._num_bytes = [], 0, 0


class _Written:
    """Bytes that a writer of Arrow's has written, until they are taken."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._num_bytes = 0
        self.sink = pa.PythonFile(self, mode="w")

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._num_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self._num_bytes

    def flush(self) -> None:
        """Do nothing: what is written is there."""

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _selected(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    if columns is None:
        return table
    for column in columns:
        if column not in table.column_names:
            known = ", ".join(table.column_names)
            raise InvalidRequest(
                f"the rows have no column {shown(column)}; there are {known}", param="columns"
            )
    return table.select(list(dict.fromkeys(columns)))
