"""Gives columns back the types that they had before they became JSON. Knows Arrow, and no job.

What came as Parquet, a data frame or an Arrow table is JSON while it is queued: a date is text
then, bytes are base64, a list is a document, and an int8 is a number like any other. What the
types were is noted beside the rows, and read here.
"""

import base64
import json
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..jobs.frame_index import noted, noted_index

if TYPE_CHECKING:
    import pyarrow as pa

Reader = Callable[[Any], Any]  # of one value, as JSON has it

_CAST = (  # by the questions that `pyarrow.types` answers: Arrow itself reads these
    "is_boolean", "is_integer", "is_floating", "is_string", "is_large_string", "is_decimal",
    "is_date", "is_timestamp",
)  # fmt: skip
_DURATION = re.compile(r"(?P<sign>-?)P(?:(?P<days>\d+)D)?(?:T(?:(?P<seconds>[\d.]+)S)?)?")


def restored(table: "pa.Table", arrow_schema: str | None) -> "pa.Table":
    """Give columns of a table the types that `arrow_schema` (IPC, in base64) names for them.

    If it names an index as well, so does the table: see `frame_index`.
    """
    if arrow_schema is None:
        return table
    arrow = _arrow()
    schema = arrow.ipc.read_schema(arrow.py_buffer(base64.b64decode(arrow_schema)))
    for field in schema:
        place = table.schema.get_field_index(field.name)
        column = None if place < 0 else _restored(table.column(place), field.type)
        if column is not None:
            table = table.set_column(place, field.name, column)
    index = noted_index(schema.metadata)
    return table.replace_schema_metadata(noted(index)) if index else table


def _restored(column: "pa.ChunkedArray", kind: "pa.DataType") -> "pa.ChunkedArray | None":
    """Bring a column to a type; None if it is one that JSON has nothing for."""
    types = _arrow().types
    if types.is_dictionary(kind):
        values = _restored(column, kind.value_type)
        return None if values is None else values.dictionary_encode().cast(kind)
    if types.is_timestamp(kind) and kind.unit in ("s", "ms"):  # its text has six digits anyway
        return column.cast(_arrow().timestamp("us", kind.tz)).cast(kind)
    if any(getattr(types, fits)(kind) for fits in _CAST):
        return column.cast(kind)
    read = _reader(kind)
    if read is None:
        return None
    is_document = types.is_nested(kind)
    values = [
        None if value is None else read(json.loads(value) if is_document else value)
        for value in column.to_pylist()
    ]
    return _arrow().chunked_array([_arrow().array(values, kind)])


def _reader(kind: "pa.DataType") -> Reader | None:
    """Return what reads one value of a type from what JSON has for it."""
    types = _arrow().types
    if types.is_map(kind):
        key, item = _reader(kind.key_type), _reader(kind.item_type)
        return partial(_read_map, key, item) if key and item else None
    if types.is_struct(kind):
        fields = {field.name: _reader(field.type) for field in kind}
        known = {name: read for name, read in fields.items() if read is not None}
        return partial(_read_struct, known) if len(known) == len(fields) else None
    if types.is_nested(kind) and kind.num_fields == 1 and not types.is_union(kind):
        read = _reader(kind.field(0).type)
        return read and partial(_read_list, read)
    return next((read for fits, read in _LEAVES.items() if getattr(types, fits)(kind)), None)


def _read_list(read: Reader, value: Any) -> Any:
    return value and [None if each is None else read(each) for each in value]


def _read_struct(fields: dict[str, Reader], value: Any) -> Any:
    return value and {
        name: None if value.get(name) is None else read(value[name])
        for name, read in fields.items()
    }


def _read_map(key: Reader, item: Reader, value: Any) -> Any:
    return value and [(key(k), None if v is None else item(v)) for k, v in value]


def _read_duration(text: str) -> timedelta | int:
    match = _DURATION.fullmatch(text)
    if match is None:  # finer than a microsecond: a number, in the column's own unit
        return int(text)
    seconds = Decimal(match["seconds"] or 0) * 1_000_000
    found = timedelta(days=int(match["days"] or 0), microseconds=int(seconds))
    return -found if match["sign"] else found


def _as_is(value: Any) -> Any:
    return value


_LEAVES: dict[str, Reader] = {  # likewise
    "is_boolean": _as_is,
    "is_integer": _as_is,
    "is_floating": _as_is,
    "is_string": _as_is,
    "is_large_string": _as_is,
    "is_null": _as_is,
    "is_decimal": Decimal,
    "is_date": date.fromisoformat,
    "is_time": time.fromisoformat,
    "is_timestamp": datetime.fromisoformat,
    "is_duration": _read_duration,
    "is_binary": base64.b64decode,
    "is_large_binary": base64.b64decode,
    "is_fixed_size_binary": base64.b64decode,
}


def _arrow() -> Any:
    """Load Arrow, which the client does only when it is asked for a table."""
    return import_module("pyarrow")
