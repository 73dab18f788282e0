"""Landing: a finished shard becomes one Parquet part, whole, once. Knows no Redis and no engine.

    rows -> bytes -> _tmp/….tmp -> fsync -> exclusive link rows/part-NNNNNN.parquet -> fsync

The link decides: of several writers the first wins, and the others get its counts. What a part
adds to its job stands in its footer, so that the job table can be made again from the parts.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from .durable import StorageFull, create_file, may_exist
from .errors import UnknownJob
from .found_part import found_counts
from .job_dir import JobDir
from .landed_logprobs import logprobs_column
from .model import ColumnType, JobSpec, RequestError, RowStatus
from .parsed_column import parsed_value
from .part_counts import PartCounts
from .part_file import CorruptPart, footer_fields, part_counts, sealed_part
from .results_dir import ResultsDir
from .row_schema import PARSED, REPEATING_COLUMNS, landed_names, our_columns, row_schema
from .tool_use import ToolCall
from .vectors import unpack

__all__ = [
    "CorruptPart",
    "LandedRow",
    "PartCounts",
    "StorageFull",
    "land",
    "part_counts",
]

_STATISTICS_COLUMNS = ["row_index", "custom_id", "status", "finish_reason", "completion_tokens"]


@dataclass(frozen=True, slots=True)
class LandedRow:
    """One output row: one sample of one input row, or its failure.

    `columns` are the user's own, as the sealed input holds them.
    """

    row_index: int
    custom_id: str | None
    status: RowStatus
    output: str | None = None
    output_json: str | None = None  # the output, where it is a JSON document that was asked for
    tool_calls: tuple[ToolCall, ...] = ()
    sample_index: int = 0
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    error: RequestError | None = None
    attempts: int = 1  # how often the row was tried: `Claim.tries`
    worker: str | None = None
    queued_at_ms: int | None = None
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    embedding: bytes | None = None  # see `vectors`
    logprobs: bytes | None = None  # see `landed_logprobs`


def land(
    spec: JobSpec,
    index: int,
    attempt: int,
    rows: Sequence[LandedRow],
    *,
    job_dir: JobDir | None = None,
) -> PartCounts:
    """Write the part of one shard durably, unless it is there; return the counts that stand.

    With `job_dir`, nothing lands of a job that was removed, and nothing stays if that comes to pass
    meanwhile.

    Raises:
        ValueError: the rows are not those of a whole shard.
        UnknownJob: the job was removed.
        StorageFull: there is no room; nothing has landed.
        CorruptPart: somebody else's part came in between, and it cannot be read.
    """
    results = ResultsDir.of(spec)
    part = results.part(index)
    found = found_counts(results, index)
    if found is not None:
        return found
    counts = _count(spec, index, attempt, rows)
    data = _encode(spec, counts, rows)
    try:
        is_ours = _link_part(results, index, data, job_dir)
    finally:
        was_removed = _is_gone(job_dir)  # who removes it may have looked before the part was there
        if was_removed:
            results.withdraw(index)
    if was_removed:
        raise UnknownJob(spec.job_id)
    return counts if is_ours else part_counts(part)


def _link_part(results: ResultsDir, index: int, data: bytes, job_dir: JobDir | None) -> bool:
    """Make the part, and the directories that it needs; returns whether it is ours."""
    part = results.part(index)
    try:
        return create_file(part, data, temporary_dir=results.temporary)
    except FileNotFoundError:  # somebody swept the directory, or it is the first part
        if _is_gone(job_dir):
            raise UnknownJob(results.path.name) from None
        results.create()
        return create_file(part, data, temporary_dir=results.temporary)


def _is_gone(job_dir: JobDir | None) -> bool:
    return job_dir is not None and not may_exist(job_dir.spec)


def num_shard_rows(spec: JobSpec, index: int) -> int:
    """Count the input rows of a shard; the last one may be short."""
    return min(spec.shard_rows, spec.num_rows - index * spec.shard_rows)


def _count(spec: JobSpec, index: int, attempt: int, rows: Sequence[LandedRow]) -> PartCounts:
    """Add up a shard, and insist that it is whole: this is what keeps rows from getting lost."""
    samples = {(row.row_index, row.sample_index) for row in rows}
    if len(samples) != len(rows):
        raise ValueError(f"shard {index} of {spec.job_id} has the same sample of a row twice")
    by_row: dict[int, LandedRow] = {}
    for row in rows:  # a prompt is paid for once, however many samples it has
        first = by_row.setdefault(row.row_index, row)
        if row.prompt_tokens > first.prompt_tokens:
            by_row[row.row_index] = row
    if len(by_row) != num_shard_rows(spec, index):
        raise ValueError(
            f"shard {index} of {spec.job_id} has {num_shard_rows(spec, index)} rows, got "
            f"{len(by_row)} to land"
        )
    starts = [row.started_at_ms for row in rows if row.started_at_ms is not None]
    failed = {row.row_index: row.error for row in rows if row.status is RowStatus.FAILED}
    codes = Counter(error.code for error in failed.values() if error is not None)
    answers = rows if spec.wants_documents else ()
    unparsed = {row.row_index for row in answers if row.output_json is None and not row.tool_calls}
    return PartCounts(
        rows=len(by_row),
        failed=len(failed),
        prompt_tokens=sum(row.prompt_tokens for row in by_row.values()),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in by_row.values()),
        attempt=attempt,
        started_at_ms=min(starts, default=None),
        errors=dict(codes),
        unparsed=len(unparsed - failed.keys()),
    )


def encode_part(
    spec: JobSpec, counts: PartCounts, rows: pa.Table, *, retry: str | None = None
) -> bytes:
    """Write the rows of a part, which are in order and of the job's schema, as they are to land."""
    sink = pa.BufferOutputStream()
    writer = pq.ParquetWriter(
        sink,
        rows.schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=list(REPEATING_COLUMNS),  # pyright: ignore[reportArgumentType]
        write_statistics=_STATISTICS_COLUMNS,  # pyright: ignore[reportArgumentType]
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(rows.schema.get_field_index("row_index"))],
    )
    with writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(
            {b"penstock.job_id": spec.job_id.encode(), **footer_fields(counts, retry)}
        )
    return sealed_part(sink.getvalue())


def _encode(spec: JobSpec, counts: PartCounts, rows: Iterable[LandedRow]) -> bytes:
    ordered = sorted(rows, key=lambda row: (row.row_index, row.sample_index))
    schema = row_schema(spec)
    columns = [
        values if isinstance(values, pa.Array) else pa.array(values, schema.field(name).type)
        for name, values in _values(spec, ordered)
    ]
    return encode_part(spec, counts, pa.table(columns, schema=schema))


def _values(spec: JobSpec, rows: Sequence[LandedRow]) -> Iterable[tuple[str, list[Any] | pa.Array]]:
    """Yield every column of the schema, in its order."""
    ours = our_columns(spec)
    for name in ours.names:
        value_of = _OUR_VALUES.get(name)
        if name == "model":
            yield name, [spec.task.model] * len(rows)
        elif name == "row_id":
            yield name, [f"{spec.job_id}/{row.row_index}/{row.sample_index}" for row in rows]
        elif name == PARSED:
            kind = ours.field(name).type
            yield name, [parsed_value(row.output_json, kind) for row in rows]
        elif name == "logprobs":
            yield name, logprobs_column([row.logprobs for row in rows])
        elif value_of is None:  # a column that nothing fills yet
            yield name, [None] * len(rows)
        else:
            yield name, [value_of(row) for row in rows]
    for column, name in landed_names(spec).items():
        bring = _USER_VALUES[spec.columns[column]]
        values = (row.columns.get(column) for row in rows)
        yield name, [None if value is None else bring(value) for value in values]


def _text(value: str | None) -> str | None:
    """Replace what UTF-8 cannot hold: one lone surrogate must not fail a whole part."""
    return None if value is None else value.encode("utf-8", "replace").decode()


def _error(row: LandedRow) -> dict[str, Any] | None:
    if row.error is None:
        return None
    return {
        "code": row.error.code,
        "message": _text(row.error.message),
        "param": row.error.param,
        "retryable": row.error.retryable,
        "stage": row.error.stage,
    }


def _tool_calls(row: LandedRow) -> list[dict[str, str]] | None:
    return [asdict(call) for call in row.tool_calls] or None


def _microseconds(timestamp_ms: int | None) -> int | None:
    return None if timestamp_ms is None else timestamp_ms * 1000


def _latency_ms(row: LandedRow) -> int | None:
    if row.started_at_ms is None or row.finished_at_ms is None:
        return None
    return max(0, row.finished_at_ms - row.started_at_ms)


_OUR_VALUES: dict[str, Callable[[LandedRow], Any]] = {
    "row_index": lambda row: row.row_index,
    "custom_id": lambda row: _text(row.custom_id),
    "sample_index": lambda row: row.sample_index,
    "status": lambda row: row.status.value,
    "output": lambda row: _text(row.output),
    "output_json": lambda row: _text(row.output_json),
    "embedding": lambda row: None if row.embedding is None else unpack(row.embedding),
    "tool_calls": _tool_calls,
    "finish_reason": lambda row: row.finish_reason,
    "prompt_tokens": lambda row: row.prompt_tokens,
    "completion_tokens": lambda row: row.completion_tokens,
    "cached_tokens": lambda row: row.cached_tokens,
    "error": _error,
    "attempts": lambda row: row.attempts,
    "worker": lambda row: row.worker,
    "queued_at": lambda row: _microseconds(row.queued_at_ms),
    "started_at": lambda row: _microseconds(row.started_at_ms),
    "finished_at": lambda row: _microseconds(row.finished_at_ms),
    "latency_ms": _latency_ms,
}

_USER_VALUES: dict[ColumnType, Callable[[Any], Any]] = {
    ColumnType.BOOL: bool,
    ColumnType.INT: int,
    ColumnType.FLOAT: float,
    ColumnType.STRING: str,
    ColumnType.JSON: lambda value: msgspec.json.encode(value).decode(),
}
