"""Reads Parquet as rows, in batches that fit in memory. Knows Arrow; lines count rows, from 1."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from .durable import is_disk_trouble
from .input_row import (
    InputRow,
    InputRows,
    RowTooLong,
    UnreadableInput,
    check_length,
    short_reason,
)
from .model import RejectedLine
from .parquet_batches import DAMAGE, RowGroupTooLarge, batches_of, damaged_column
from .python_row import python_row, unwritable

_BYTES_AT_ONCE = 32 << 20
_NO_VALUE = (ValueError, OverflowError, LookupError)  # what a cell raises that Python cannot hold
_IN_MICROSECONDS: dict[int, Callable[[Any], pa.DataType]] = {
    pa.timestamp("ns").id: lambda kind: pa.timestamp("us", kind.tz),
    pa.duration("ns").id: lambda _: pa.duration("us"),
    pa.time64("ns").id: lambda _: pa.time64("us"),
}


def read_parquet(file: BinaryIO, name: str) -> InputRows:
    """Read all rows of an input that is called so in messages.

    Raises:
        UnreadableInput: it is no Parquet, has a column twice, or, later, is damaged.
    """
    with _readable(name):
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        schema = parquet.schema_arrow
    twice = next((each for each in schema.names if schema.names.count(each) > 1), None)
    if twice is not None:
        raise UnreadableInput(
            f"cannot read {name}: two of its columns have the same name, {twice!r:.80}"
        )
    is_stored = isinstance(getattr(file, "raw", None), pa.NativeFile)  # read over a network
    return InputRows(_rows(parquet, name, is_stored), schema)


def _rows(parquet: pq.ParquetFile, name: str, is_stored: bool) -> Iterator[InputRow | RejectedLine]:
    line = 0
    try:
        for batch in batches_of(parquet):
            for read in _row_readers(_without_nanoseconds(batch)):
                line += 1
                yield _row(line, read)
    except RowGroupTooLarge as error:
        raise _unreadable(name, str(error)) from error
    except DAMAGE as error:
        is_trouble = is_stored or is_disk_trouble(error)  # then no column is to blame
        column = None if is_trouble else damaged_column(parquet, line)
        where = f"line {line + 1}" + ("" if column is None else f", column {column!r:.80}")
        raise _unreadable(name, f"{where} or soon behind it: {short_reason(error)}") from error


def _row(line: int, read: Callable[[], dict[str, Any]]) -> InputRow | RejectedLine:
    try:
        return python_row(line, read())
    except RowTooLong as error:
        return RejectedLine(line, str(error))
    except _UnwritableCell as error:
        return unwritable(line, error, error.column)


def _row_readers(batch: pa.RecordBatch) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield what reads each row: together if they are small, as Python's values take more.

    A moment that no calendar shows, or of no known time zone, spoils its own row only.
    """
    try:
        rows = batch.to_pylist() if batch.nbytes <= _BYTES_AT_ONCE else None
    except _NO_VALUE:
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
    check_length(sum(column.nbytes for column in columns))
    return {
        name: _cell(name, column) for name, column in zip(batch.schema.names, columns, strict=True)
    }


def _cell(name: str, column: pa.Array) -> Any:
    try:
        return column[0].as_py()
    except LookupError as error:
        raise _UnwritableCell(name, f"no time zone is known as {short_reason(error)}") from error
    except _NO_VALUE as error:
        raise _UnwritableCell(name, short_reason(error)) from error


class _UnwritableCell(ValueError):
    """Python has no value for what stands in a column."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column


def _without_nanoseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Bring moments and durations to microseconds, which Python has; the finer ones become text."""
    for place, field in enumerate(batch.schema):
        kind, column = field.type, batch.column(place)
        if getattr(kind, "unit", None) != "ns":
            continue
        for target in (_IN_MICROSECONDS[kind.id](kind), pa.string()):
            with suppress(pa.ArrowInvalid):  # too fine, or, as text, of no known time zone
                batch = batch.set_column(place, field.name, column.cast(target))
                break
    return batch


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise _unreadable(name, short_reason(error)) from error


def _unreadable(name: str, reason: str) -> UnreadableInput:
    return UnreadableInput(f"cannot read {name} as Parquet: {reason}")
