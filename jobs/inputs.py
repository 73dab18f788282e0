"""Reads JSON lines, CSV and Parquet as a stream of rows. Knows no job; holds one piece at a time.

A line that cannot become a row is reported and passed over: one bad line spoils no other. What is
no such file at all is refused as a whole.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from .model import RejectedLine
from .object_store import ObjectStore, StorePlace, StoreUnavailable
from .parquet_batches import RowGroupTooLarge, batches_of

Format = Literal["jsonl", "parquet", "csv"]

MAX_LINE_BYTES = 16 << 20
MAX_DEPTH = 64  # of nested lists and objects; what reads the row later has a stack of its own
_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
}
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"\x1f\x8b": "it is compressed with gzip: decompress it first",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd: decompress it first",
    b"PK\x03\x04": "it is a ZIP archive or a spreadsheet: export it as CSV",
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
}
_PARQUET_BYTES_AT_ONCE = 32 << 20
_IN_MICROSECONDS: dict[int, Callable[[Any], pa.DataType]] = {
    pa.timestamp("ns").id: lambda kind: pa.timestamp("us", kind.tz),
    pa.duration("ns").id: lambda _: pa.duration("us"),
    pa.time64("ns").id: lambda _: pa.time64("us"),
}


class UnreadableInput(ValueError):
    """The input as a whole cannot be read; the message names the cause."""


class _TooLong(ValueError):
    """A row is more than a line of JSON may be."""

    def __init__(self) -> None:
        super().__init__(f"is longer than {MAX_LINE_BYTES >> 20} MiB")


@dataclass(frozen=True, slots=True)
class InputRow:
    """A row as it stands in the input. `line` counts from 1; in Parquet it counts rows."""

    line: int
    row: dict[str, Any]


class InputRows(Iterator[InputRow | RejectedLine]):
    """The rows of an input, and the lines that cannot become rows, in turn.

    `arrow_schema` is what the input says of its columns; None if it is of a kind that says nothing.
    """

    def __init__(
        self, items: Iterator[InputRow | RejectedLine], arrow_schema: pa.Schema | None = None
    ) -> None:
        self.arrow_schema = arrow_schema
        self._items = items

    def __next__(self) -> InputRow | RejectedLine:
        """Return the next one."""
        return next(self._items)


def open_input(
    source: Path | str | BinaryIO, format: str | None = None, *, filename: str | None = None
) -> InputRows:
    """Read a file, or an open binary file, row by row; blank lines are not there.

    Without `format` the suffix of the path or of `filename` decides, else the first bytes. An
    input that cannot be read is found out at once, not at the first row.

    Raises:
        UnreadableInput: it cannot be opened, is of no known format, or breaks off.
    """
    if format is not None and format not in ("jsonl", "parquet", "csv"):
        raise UnreadableInput(f"unknown format {format!r}: use jsonl, parquet or csv")
    if isinstance(source, Path | str):
        path = Path(source)
        try:
            file = path.open("rb")
        except OSError as error:
            raise UnreadableInput(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:  # a NUL in the path
            raise UnreadableInput(f"cannot read {str(path)[:60]!r}: {error}") from error
        return _closing(file, _open(file, format, filename or path.name))
    return _open(source, format, filename or "")


def open_object(url: str, endpoint: str | None, format: str | None = None) -> InputRows:
    """Read an object of a store as `open_input` reads a file: piece by piece, never all of it.

    Raises:
        UnreadableInput: it cannot be opened, is of no known format, or breaks off.
    """
    try:
        file = ObjectStore(StorePlace.parse(url), endpoint).open()
    except (ValueError, StoreUnavailable) as error:
        raise UnreadableInput(str(error)) from error
    return _closing(file, open_input(file, format, filename=Path(url).name))


def rows_input(rows: Iterable[Any]) -> InputRows:
    """Read rows that are in memory already, as JSON lines would be read."""
    return InputRows(_read_rows(rows))


def _read_rows(rows: Iterable[Any]) -> Iterator[InputRow | RejectedLine]:
    for line, row in enumerate(rows, 1):
        try:
            yield _as_row(line, _as_json(row))
        except _TooLong as error:
            yield RejectedLine(line, str(error))
        except (TypeError, ValueError, RecursionError) as error:
            yield RejectedLine(line, f"cannot be written as JSON: {_shortened(error)}")


def _closing(file: BinaryIO, rows: InputRows) -> InputRows:
    def closing() -> Iterator[InputRow | RejectedLine]:
        with file:
            yield from rows

    return InputRows(closing(), rows.arrow_schema)


def _open(file: BinaryIO, format: str | None, name: str) -> InputRows:
    name = name or "the input"
    if not file.seekable():
        raise UnreadableInput(f"cannot read {name}: it is a stream; write it to a file first")
    start = file.tell()
    head = file.read(4096)
    file.seek(start)
    for magic, reason in _FOREIGN.items():
        if head.startswith(magic):
            raise UnreadableInput(f"cannot read {name}: {reason}")
    if not head:
        raise UnreadableInput(f"cannot read {name}: it is empty")
    match format or _FORMAT_OF_SUFFIX.get(Path(name).suffix.lower()) or _sniffed(head):
        case "jsonl":
            return InputRows(_read_jsonl(file))
        case "csv":
            return InputRows(_read_csv(file, name))
        case "parquet":
            return _read_parquet(file, name)
        case _:
            raise UnreadableInput(
                f"cannot tell the format of {name}: name it .jsonl, .csv or .parquet, or say format"
            )


def _sniffed(head: bytes) -> Format | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if head.removeprefix(_BOM).lstrip().startswith(b"{") else None


def _read_jsonl(file: BinaryIO) -> Iterator[InputRow | RejectedLine]:
    for line, text in _lines(file):
        if text is None:
            yield RejectedLine(line, str(_TooLong()))
        elif text:
            yield read_json_line(line, text)


def read_json_line(line: int, text: bytes) -> InputRow | RejectedLine:
    """Read a line of JSON lines that is not blank."""
    try:
        return _as_row(line, msgspec.json.decode(text))
    except RecursionError:
        return RejectedLine(line, f"is nested more than {MAX_DEPTH} levels deep")
    except (msgspec.DecodeError, ValueError) as error:
        return RejectedLine(line, f"is not JSON: {_shortened(error)}")


def _as_row(line: int, value: Any) -> InputRow | RejectedLine:
    if isinstance(value, dict):
        if _is_deeper_than(MAX_DEPTH, value):
            return RejectedLine(line, f"is nested more than {MAX_DEPTH} levels deep")
        return InputRow(line, value)
    kind = "null" if value is None else type(value).__name__
    return RejectedLine(line, f"must be a JSON object with the row's columns, got {kind}")


def _is_deeper_than(limit: int, value: Any) -> bool:
    if not isinstance(value, dict | list):
        return False
    if limit == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_is_deeper_than(limit - 1, item) for item in inner)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield numbered, stripped lines; None for one that is too long to be held."""
    line = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        if line == 1:
            text = text.removeprefix(_BOM)
        if len(text) > MAX_LINE_BYTES and not text.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield line, None
        else:
            yield line, text.strip()


def _read_csv(file: BinaryIO, name: str) -> Iterator[InputRow | RejectedLine]:
    # The limit is one for the whole process, and its default is too small for documents.
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(_csv_lines(text, name), strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise UnreadableInput(f"cannot read {name}: its first line is not CSV: {error}") from error
    if not header or len(set(header)) != len(header) or "" in header:
        raise UnreadableInput(
            f"cannot read {name}: its first line must name every column, once; got {header[:20]!r}"
        )
    return _read_csv_rows(reader, header, text)


def _csv_lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    while line := text.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES and not line.endswith("\n"):
            raise UnreadableInput(
                f"cannot read {name}: it has a line longer than {MAX_LINE_BYTES >> 20} MiB"
            )
        yield line


def _read_csv_rows(
    reader: Any, header: list[str], text: io.TextIOWrapper
) -> Iterator[InputRow | RejectedLine]:
    try:
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield RejectedLine(line, f"is not CSV: {_shortened(error)}")
                continue
            if not fields:
                continue
            if len(fields) != len(header):
                yield RejectedLine(line, f"has {len(fields)} fields, the header {len(header)}")
            elif any(_has_surrogates(field) for field in fields):
                yield RejectedLine(line, "is not UTF-8")
            else:
                yield InputRow(line, dict(zip(header, fields, strict=True)))
    finally:
        text.detach()  # or it would close the file under its owner


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


def _read_parquet(file: BinaryIO, name: str) -> InputRows:
    with _parquet_errors(name):
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        schema = parquet.schema_arrow
    if len(set(schema.names)) != len(schema.names):
        raise UnreadableInput(f"cannot read {name}: two of its columns have the same name")
    return InputRows(_read_parquet_rows(parquet, name), schema)


def _read_parquet_rows(parquet: pq.ParquetFile, name: str) -> Iterator[InputRow | RejectedLine]:
    line = 0
    with _parquet_errors(name):
        for batch in batches_of(parquet):
            for read in _row_readers(_without_nanoseconds(batch)):
                line += 1
                try:
                    yield _as_row(line, _as_json(read()))
                except _TooLong as error:
                    yield RejectedLine(line, str(error))
                except (TypeError, ValueError, OverflowError, RecursionError) as error:
                    yield RejectedLine(line, f"cannot be written as JSON: {_shortened(error)}")


def _row_readers(batch: pa.RecordBatch) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield what reads each row: together if they are small, as Python's values take more.

    A moment that no calendar shows spoils its own row only.
    """
    try:
        rows = batch.to_pylist() if batch.nbytes <= _PARQUET_BYTES_AT_ONCE else None
    except (ValueError, OverflowError):
        rows = None
    for position in range(batch.num_rows):
        if rows is not None:
            yield lambda row=rows[position]: row
        else:
            yield lambda position=position: _row_at(batch, position)


def _row_at(batch: pa.RecordBatch, position: int) -> dict[str, Any]:
    row = batch.slice(position, 1)
    columns = [
        column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
        for column in row.columns
    ]
    if sum(column.nbytes for column in columns) > MAX_LINE_BYTES:
        raise _TooLong
    return row.to_pylist()[0]


def _without_nanoseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Bring moments and durations to microseconds, which Python has; the finer ones become text."""
    for place, field in enumerate(batch.schema):
        kind, column = field.type, batch.column(place)
        if getattr(kind, "unit", None) != "ns":
            continue
        try:
            column = column.cast(_IN_MICROSECONDS[kind.id](kind))
        except pa.ArrowInvalid:
            column = column.cast(pa.string())
        batch = batch.set_column(place, field.name, column)
    return batch


@contextmanager
def _parquet_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError, RowGroupTooLarge) as error:
        raise UnreadableInput(f"cannot read {name} as Parquet: {_shortened(error)}") from error


def _as_json(value: Any) -> Any:
    """Bring a Python value to what JSON has: dates as text, bytes as base64, NaN as null."""
    text = msgspec.json.encode(value)
    if len(text) > MAX_LINE_BYTES:
        raise _TooLong
    return msgspec.json.decode(text)


def _shortened(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
