"""What the user's columns were where they came from, as far as JSON cannot say it. Knows no rows.

A row is JSON from the day it is sealed: a date is text in it, and an int8 a number. An input that
had types of its own (Parquet) leaves them here, under the names that the columns land with, so
that whoever reads a table of the rows can give the types back; and the index, if it was a frame's.
"""

import base64
from collections.abc import Mapping, Sequence

import pyarrow as pa

from .frame_index import index_of_frame, noted
from .model import ColumnType
from .row_schema import ARROW_TYPES

_MAX_BYTES = 256 << 10  # of a text that stands in `job.json` and in the manifest


def lost_types(
    columns: Mapping[str, ColumnType], names: Mapping[str, str], schema: pa.Schema
) -> str | None:
    """Write down which of an input's columns land as something else, by the names they land with.

    None if there is none of them, and no index, or they would take too much room.
    """
    lost = [
        pa.field(names[field.name], field.type)
        for field in schema
        if field.name in columns and _is_lost(field.type, ARROW_TYPES[columns[field.name]])
    ]
    index = [names[column] for column in index_of_frame(schema.metadata) if column in columns]
    return written_types(lost, index)


def written_types(fields: Sequence[pa.Field], index: Sequence[str]) -> str | None:
    """Write columns and an index as an Arrow schema, in base64; None for nothing, or too much."""
    if not fields and not index:
        return None
    written = base64.b64encode(pa.schema(fields, noted(index)).serialize().to_pybytes())
    return written.decode() if len(written) <= _MAX_BYTES else None


def read_types(written: str | None) -> pa.Schema:
    """Read what `written_types` wrote."""
    if written is None:
        return pa.schema([])
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(written)))


def _is_lost(kind: pa.DataType, landed: pa.DataType) -> bool:
    if pa.types.is_null(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return kind != landed and not (is_text or pa.types.is_string_view(kind))
