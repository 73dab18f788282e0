"""The columns of landed Parquet, fixed when the job is sealed. Knows types, not values.

Ours come first, then the user's own under their own names; a name that we use already gets
`input_` before it.
"""

import pyarrow as pa

from .landed_logprobs import LOGPROBS
from .model import EMBED, ColumnType, JobSpec
from .parsed_column import parsed_type

_ERROR = pa.struct(
    [
        pa.field("code", pa.string()),
        pa.field("message", pa.string()),
        pa.field("param", pa.string()),
        pa.field("retryable", pa.bool_()),
        pa.field("stage", pa.string()),
    ]
)
_TOOL_CALL = pa.struct(
    [
        pa.field("id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("arguments", pa.string()),
    ]
)
_TIMESTAMP = pa.timestamp("us", tz="UTC")

OUR_COLUMNS = pa.schema(
    [
        pa.field("row_index", pa.int64(), nullable=False),  # position in the input
        pa.field("row_id", pa.string(), nullable=False),  # unique over all jobs and samples
        pa.field("parent_id", pa.string()),  # the row it was made from, in a workflow
        pa.field("custom_id", pa.string()),
        pa.field("sample_index", pa.int16(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("output", pa.string()),
        pa.field("output_json", pa.string()),
        pa.field("tool_calls", pa.list_(_TOOL_CALL)),
        pa.field("finish_reason", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("adapter", pa.string()),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("cached_tokens", pa.int32(), nullable=False),
        pa.field("error", _ERROR),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("worker", pa.string()),
        pa.field("queued_at", _TIMESTAMP),
        pa.field("started_at", _TIMESTAMP),
        pa.field("finished_at", _TIMESTAMP),
        pa.field("latency_ms", pa.int32()),
    ]
)
REPEATING_COLUMNS = ("status", "finish_reason", "model", "adapter", "worker")

ARROW_TYPES = {  # of the user's own columns
    ColumnType.BOOL: pa.bool_(),
    ColumnType.INT: pa.int64(),
    ColumnType.FLOAT: pa.float64(),
    ColumnType.STRING: pa.string(),
    ColumnType.JSON: pa.string(),
}


PARSED = "parsed"


def our_columns(spec: JobSpec) -> pa.Schema:
    """Return the columns that are ours.

    One more where a schema of simple types is declared, where log-probabilities are asked for, or
    where it is vectors.
    """
    place = OUR_COLUMNS.get_field_index("output_json") + 1
    if spec.task.endpoint == EMBED:
        return OUR_COLUMNS.insert(place, pa.field("embedding", pa.list_(pa.float32())))
    columns = OUR_COLUMNS
    if spec.has_logprobs:
        behind_calls = columns.get_field_index("tool_calls") + 1
        columns = columns.insert(behind_calls, pa.field("logprobs", LOGPROBS))
    schema = spec.task.document_schema()
    kind = None if schema is None else parsed_type(schema)
    return columns if kind is None else columns.insert(place, pa.field(PARSED, kind))


def landed_names(spec: JobSpec) -> dict[str, str]:
    """Map each of the user's columns to its name in the landed rows."""
    ours = our_columns(spec).names
    taken = set(ours) | set(spec.columns)
    names: dict[str, str] = {}
    for column in spec.columns:
        name = column
        if column in ours:
            while name in taken:
                name = f"input_{name}"
            taken.add(name)
        names[column] = name
    return names


def row_schema(spec: JobSpec) -> pa.Schema:
    """Return the schema of every part of a job."""
    names = landed_names(spec)
    own = [pa.field(names[column], ARROW_TYPES[kind]) for column, kind in spec.columns.items()]
    return pa.schema([*our_columns(spec), *own])
