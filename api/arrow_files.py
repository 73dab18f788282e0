"""Tables of any make as a Parquet file, piece by piece. Knows Arrow, and what the queue can carry.

A column keeps its type: the file says it, and the results have it again. What would be lost or
changed on the way, because rows are JSON while they are queued, is refused by row and column. Only
NaN is not: it becomes null, which is what most tables mean by it.
"""

import io
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from ..jobs.frame_index import PANDAS
from .client_errors import InvalidInput
from .infinities import first_infinity
from .tables import need

_GROUP_ROWS = 50_000
_GROUP_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20
_BYTES = ("is_binary", "is_large_binary", "is_binary_view", "is_fixed_size_binary")


def parquet_pieces(rows: Any) -> Iterator[bytes]:
    """Write a table: by the Arrow C protocols, as pyarrow, pandas, polars and DuckDB speak them.

    NaN becomes null, as pandas has it; an infinity, however deep in a column, is refused.

    Raises:
        InvalidInput: a column cannot be sent; the message says which, and what to do.
        MissingPackage: pyarrow is not there.
    """
    need("pyarrow", "sending a data frame")
    return pieces_of(_batches(rows))


def pieces_of(tables: Iterable[Any]) -> Iterator[bytes]:
    """Write tables, or record batches, of one schema as one Parquet file; see `parquet_pieces`."""
    parquet = need("pyarrow.parquet", "sending a table")
    sink, writer, num_rows = _Sink(), None, 0
    for group in _groups(tables):
        carried = _carried(group, num_rows)
        writer = writer or parquet.ParquetWriter(sink, carried.schema, compression="zstd")
        writer.write_table(carried.cast(writer.schema))
        num_rows += group.num_rows
        yield from sink.take()
    if writer is None:
        raise InvalidInput("there are no rows to send: the table is empty")
    writer.close()
    yield from sink.take()


def _batches(rows: Any) -> Iterator[Any]:
    arrow = need("pyarrow", "sending a data frame")
    if type(rows).__module__.partition(".")[0] == "pandas":
        rows = _from_pandas(rows)
    try:
        if hasattr(rows, "__arrow_c_stream__"):
            batches = arrow.RecordBatchReader.from_stream(rows)
        else:
            batches = [arrow.record_batch(rows)]
    except (arrow.ArrowException, TypeError, ValueError) as error:  # one column, for example
        raise InvalidInput(f"cannot read a {type(rows).__name__} as a table: {error}") from error
    yield from batches


def _from_pandas(frame: Any) -> Any:
    """Take a data frame, and its index unless that only counts the rows."""
    arrow = need("pyarrow", "sending a data frame")
    pandas = need("pandas", "sending a data frame")
    if not hasattr(frame, "columns"):
        raise InvalidInput("rows must be a DataFrame, got a Series; pass series.to_frame()")
    only_counts = frame.index.name is None and frame.index.equals(pandas.RangeIndex(len(frame)))
    try:
        return arrow.Table.from_pandas(frame, preserve_index=not only_counts)
    except (arrow.ArrowException, TypeError, ValueError) as error:
        complaint = _pandas_complaint(frame) or (
            f"cannot send the frame: {error}; if it is the index that cannot be sent, leave it out "
            "with frame.reset_index(drop=True)"
        )
        raise InvalidInput(complaint) from error


def _pandas_complaint(frame: Any) -> str | None:
    """Find the first value that is not of its column's kind."""
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        return f"the frame has two columns {str(twice)!r}; rename one"
    pandas = need("pandas", "sending a data frame")
    for name in frame.columns:
        if frame[name].dtype != object:
            continue
        first: Any = None
        for number, value in enumerate(frame[name]):
            if pandas.api.types.is_scalar(value) and pandas.isna(value):  # an array is no gap
                continue
            first = value if first is None else first
            if type(value) is not type(first):
                return (
                    f"row {number}, column {str(name)!r}, holds a {type(value).__name__} after "
                    f"values of type {type(first).__name__}; make them one type, as with "
                    f"frame[{str(name)!r}].astype(str)"
                )
    return None


def _groups(tables: Iterable[Any]) -> Iterator[Any]:
    """Put small tables together until they make a row group."""
    arrow = need("pyarrow", "sending a table")
    waiting: list[Any] = []
    num_rows = num_bytes = 0
    for table in tables:
        whole = table if isinstance(table, arrow.Table) else arrow.Table.from_batches([table])
        for start in range(0, whole.num_rows, _GROUP_ROWS):
            piece = whole.slice(start, _GROUP_ROWS)
            waiting.append(piece)
            num_rows, num_bytes = num_rows + piece.num_rows, num_bytes + piece.nbytes
            if num_rows >= _GROUP_ROWS or num_bytes >= _GROUP_BYTES:
                yield arrow.concat_tables(waiting, promote_options="default")
                waiting, num_rows, num_bytes = [], 0, 0
    if waiting:
        yield arrow.concat_tables(waiting, promote_options="default")


def _carried(table: Any, num_rows_before: int) -> Any:
    """Bring each column to a type that can be sent, without any loss."""
    for place, field in enumerate(table.schema):
        kind = _carried_type(field.type, field.name)
        column = table.column(place)
        if kind != field.type:
            column = _cast(column, kind, field.name)
            table = table.set_column(place, field.name, column)
        _check_finite(column, field.name, num_rows_before)
    note = (table.schema.metadata or {}).get(PANDAS)  # which columns are the index, for example
    return table.replace_schema_metadata(None if note is None else {PANDAS: note})


def _carried_type(kind: Any, column: str, *, is_inner: bool = False) -> Any:
    arrow = need("pyarrow", "sending a table")
    types = arrow.types
    if isinstance(kind, arrow.BaseExtensionType) or types.is_interval(kind) or types.is_union(kind):
        raise InvalidInput(
            f"column {column!r} is of the type {kind}, which cannot be sent; turn it into text or "
            "numbers, or leave it out"
        )
    if is_inner and any(getattr(types, fits)(kind) for fits in _BYTES):
        raise InvalidInput(
            f"column {column!r} holds bytes inside of lists or structs, which cannot be sent; give "
            "them a column of their own, or leave them out"
        )
    inner = partial(_carried_type, column=column, is_inner=True)
    if types.is_struct(kind):
        return arrow.struct([field.with_type(inner(field.type)) for field in kind])
    if types.is_map(kind):
        return arrow.map_(inner(kind.key_type), inner(kind.item_type))
    if types.is_fixed_size_list(kind):
        return arrow.list_(inner(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_list_view(kind):
        return arrow.list_(inner(kind.value_type))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return arrow.large_list(inner(kind.value_type))
    if types.is_dictionary(kind):
        values = inner(kind.value_type)
        return values if is_inner else arrow.dictionary(kind.index_type, values, kind.ordered)
    if types.is_string_view(kind):
        return arrow.string()
    return arrow.binary() if types.is_binary_view(kind) else kind


def _cast(column: Any, kind: Any, name: str) -> Any:
    arrow = need("pyarrow", "sending a table")
    try:
        if not arrow.types.is_dictionary(kind):
            return column.cast(kind)
        chunks = [  # Arrow does not cast the values of a dictionary
            arrow.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(kind.value_type))
            for chunk in column.chunks
        ]
        return arrow.chunked_array(chunks, arrow.dictionary(kind.index_type, kind.value_type))
    except arrow.ArrowException as error:
        raise InvalidInput(f"column {name!r} cannot be sent as {kind}: {error}") from error


def _check_finite(column: Any, name: str, num_rows_before: int) -> None:
    """Refuse an infinity, which JSON has no number for: it would come back as a gap."""
    place = first_infinity(column)
    if place is not None:
        is_nested = column.type.num_fields > 0
        raise InvalidInput(
            f"row {num_rows_before + place}, column {name!r}, "
            f"{'holds an infinity' if is_nested else 'is infinite'}, which cannot be sent; send "
            "None or a number instead"
        )


class _Sink(io.RawIOBase):
    """What a Parquet writer writes, until it is taken."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._num_taken = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._num_taken + len(self._written)

    def write(self, data: Any, /) -> int:
        self._written += data
        return len(data)

    def take(self) -> Iterator[bytes]:
        """Give what is there, in pieces."""
        taken, self._written = bytes(self._written), bytearray()
        self._num_taken += len(taken)
        for start in range(0, len(taken), _PIECE_BYTES):
            yield taken[start : start + _PIECE_BYTES]
