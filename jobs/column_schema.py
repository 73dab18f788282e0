"""What the user's columns were where they came from, as far as JSON cannot say it. Knows no rows.

A row is JSON from the day it is sealed: a date is text in it, and an int8 a number. An input that
had types of its own (Parquet) leaves them here, under the names that the columns land with, so
that whoever reads a table of the rows can give the types back; and the index, if it was a frame's.
"""

import base64

import pyarrow as pa

from .frame_index import index_of_frame, noted
from .model import JobSpec
from .row_schema import landed_names, row_schema

_MAX_BYTES = 256 << 10  # of a text that stands in `job.json` and in the manifest


def lost_types(spec: JobSpec, schema: pa.Schema) -> str | None:
    """Write down the columns that land as something else: an Arrow schema, in base64.

    None if there is none of them, and no index, or they would take too much room.
    """
    landed, names = row_schema(spec), landed_names(spec)
    lost = [
        pa.field(names[field.name], field.type)
        for field in schema
        if field.name in names and _is_lost(field.type, landed.field(names[field.name]).type)
    ]
    index = [names[column] for column in index_of_frame(schema.metadata) if column in names]
    if not lost and not index:
        return None
    written = base64.b64encode(pa.schema(lost, noted(index)).serialize().to_pybytes())
    return written.decode() if len(written) <= _MAX_BYTES else None


def _is_lost(kind: pa.DataType, landed: pa.DataType) -> bool:
    if pa.types.is_null(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return kind != landed and not (is_text or pa.types.is_string_view(kind))
