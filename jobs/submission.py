"""Submission: from an input to a sealed job on disk, then into the job table. Runs no engine.

    check the request -> stream the input into the job directory -> job.json, fsync -> job table

Whatever fails on the way, no half of a job stays behind. It blocks: call it in a thread.
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import redis

from .column_schema import lost_types
from .columns import ColumnTypes
from .destination import Destination, create_results, destination
from .durable import StorageFull, fsync_directory, storage_errors
from .errors import InvalidJob
from .idempotency import IdempotencyKey
from .inputs import InputRow, InputRows, UnreadableInput, open_input, open_object, rows_input
from .job_dir import JobDir
from .job_table import JobTable
from .model import JobSpec, RejectedLine, new_job_id, spec_version
from .object_store import is_store_url
from .results_dir import ResultsDir
from .row_request import asks_for_logprobs
from .row_schema import landed_names
from .same_input import is_input_of, row_json
from .sealed_input import CorruptInput, InputSealer
from .settings import Settings
from .sources import FileSource, NamedFileSource, PathSource, RowsSource, Source
from .submit_request import (
    MAX_COLUMNS,
    SubmitRequest,
    check_columns,
    check_context,
    check_request,
    custom_id_of,
    no_usable_rows,
)

__all__ = [
    "FileSource",
    "InvalidJob",
    "NamedFileSource",
    "PathSource",
    "RowsSource",
    "Source",
    "StorageFull",
    "Submission",
    "SubmitRequest",
    "UnreadableInput",
    "input_items",
    "submit",
]

MAX_REJECTED_SHOWN = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """A durably accepted job. `rejected` holds the first lines that could not become rows."""

    spec: JobSpec
    rejected: list[RejectedLine]
    num_rejected: int
    created: bool  # False: an earlier submission under the same idempotency key


def submit(
    settings: Settings, table: JobTable, source: Source, request: SubmitRequest
) -> Submission:
    """Make a job, durably; when this returns, its rows cannot be lost any more.

    Raises:
        InvalidJob: the request cannot become a job; `param` names the part at fault.
        InvalidSampling: as InvalidJob, for a sampling parameter.
        UnreadableInput: the input as a whole cannot be read.
        StorageFull: there is no room for the input.
    """
    templates = check_request(request)
    key = None
    if request.idempotency_key is not None:
        key = IdempotencyKey.of(settings, request.tenant, request.idempotency_key)
    earlier = None if key is None else key.made()
    if earlier is not None:
        return _found(settings, table, earlier, source, request)
    check_context(request)
    job_dir = JobDir(settings.jobs_dir, new_job_id())
    where = destination(settings, request.out)
    results = ResultsDir(Path(where.directory) / job_dir.job_id)
    try:
        job_dir.create()
        job_dir.link_results(results.path)
        create_results(results)
        items = input_items(settings, source, request.format)
        spec = _seal_input(job_dir, items, request, where, templates)
        quicker = _seal(job_dir, spec, key)
    except BaseException:
        _discard(job_dir, results)
        raise
    if quicker is not None:
        _discard(job_dir, results)
        return _found(settings, table, quicker, source, request)
    _enter(table, spec)
    return Submission(spec, _first_rejected(job_dir), spec.num_rejected, created=True)


def _enter(table: JobTable, spec: JobSpec) -> None:
    """Enter a sealed job into the table. It is accepted even if Redis fails just now."""
    try:
        table.create(spec)
    except redis.RedisError as error:  # the keeper will find the directory
        logger.warning("%s is not in the job table yet: %s", spec.job_id, error)


def _seal(job_dir: JobDir, spec: JobSpec, key: IdempotencyKey | None) -> JobDir | None:
    """Make the directory a job, unless its key has made one meanwhile; that one is returned."""
    if key is None:
        job_dir.seal(spec)
        return None
    with key.lock() as held:
        quicker = held.made()
        if quicker is not None:
            return quicker
        try:
            held.bind(spec.job_id)
            job_dir.seal(spec)
        except BaseException:
            job_dir.remove()  # before anyone else looks whether it was made
            held.free()
            raise
    return None


def _discard(job_dir: JobDir, results: ResultsDir) -> None:
    job_dir.remove()
    results.remove()


def _seal_input(
    job_dir: JobDir,
    items: InputRows,
    request: SubmitRequest,
    where: Destination,
    templates: dict[str, frozenset[str]],
) -> JobSpec:
    """Stream the input into the job directory, and say what is in it."""
    columns = ColumnTypes()
    task = request.task
    brings_requests = task.prompt is None and task.messages is None
    has_logprobs = task.sampling_params().logprobs is not None
    num_rejected = 0
    first_rejected: RejectedLine | None = None
    with storage_errors(job_dir.path):
        sealer = InputSealer(job_dir.input, request.shard_rows)
        try:
            with job_dir.bad_lines.open("wb") as bad_lines:
                for row_index, item in enumerate(items):
                    if isinstance(item, InputRow):
                        has_logprobs |= brings_requests and asks_for_logprobs(item.row)
                        item = _sealed(sealer, row_index, item, request, columns)
                    if item is not None:
                        num_rejected += 1
                        first_rejected = first_rejected or item
                        bad_lines.write(msgspec.json.encode(item) + b"\n")
            sealer.close()
        except BaseException:
            sealer.abandon()
            raise
    if sealer.num_rows == 0:
        raise no_usable_rows(first_rejected)
    types = columns.settled()
    check_columns(request, templates, list(types))
    spec = JobSpec(
        job_id=job_dir.job_id,
        task=task,
        num_rows=sealer.num_rows,
        num_shards=sealer.num_shards,
        shard_rows=sealer.shard_rows,
        columns=types,
        out=where.directory,
        out_url=where.url,
        created_at_ms=time.time_ns() // 1_000_000,
        num_rejected=num_rejected,
        name=request.name,
        id_column=request.id_column,
        tenant=request.tenant,
        priority=request.priority,
        metadata=dict(request.metadata),
        idempotency_key=request.idempotency_key,
        deadline_ms=request.deadline_ms,
        max_error_rate=request.max_error_rate,
        error_rate_after=request.error_rate_after,
        has_logprobs=has_logprobs,
        version=spec_version(task, types, has_logprobs=has_logprobs),
    )
    if items.arrow_schema is None:
        return spec
    lost = lost_types(spec.columns, landed_names(spec), items.arrow_schema)
    return replace(spec, arrow_schema=lost)


def input_items(settings: Settings, source: Source, format: str | None) -> InputRows:
    """Read the rows of a source, and the lines that cannot become rows.

    Raises:
        UnreadableInput: it cannot be read as a whole.
    """
    match source:
        case PathSource(path) if is_store_url(path):
            return open_object(str(path), settings.s3_endpoint, format)
        case PathSource(path):
            return open_input(path, format)
        case NamedFileSource(path, filename):
            return open_input(path, format, filename=filename)
        case FileSource(file, filename):
            return open_input(file, format, filename=filename)
        case RowsSource(rows):
            return rows_input(rows)


def _sealed(
    sealer: InputSealer,
    row_index: int,
    item: InputRow,
    request: SubmitRequest,
    columns: ColumnTypes,
) -> RejectedLine | None:
    """Append a row, unless it cannot be kept; then say why."""
    text = row_json(item)
    if isinstance(text, RejectedLine):
        return text
    columns.add(item.row)
    if len(columns) > MAX_COLUMNS:
        raise InvalidJob(
            "input", f"the input has more than {MAX_COLUMNS} columns, at line {item.line}"
        )
    sealer.add(row_index, custom_id_of(request, item.row), text)
    return None


def _found(
    settings: Settings, table: JobTable, job_dir: JobDir, source: Source, request: SubmitRequest
) -> Submission:
    """Answer with the job that the key has made, if it is the one that is asked for.

    Its name is then durable: whoever sealed it may have died before that.
    """
    with storage_errors(job_dir.path):
        fsync_directory(job_dir.path)
    spec = job_dir.read_spec()
    is_same = (spec.task, spec.id_column) == (request.task, request.id_column)
    if not is_same or not _brings_rows_of(settings, job_dir, source, request):
        raise InvalidJob(
            "idempotency_key",
            f"idempotency_key {request.idempotency_key!r} has made {spec.job_id}, which has "
            "another task or other rows; take a new key for a new job",
        )
    if job_dir.read_final() is None:
        _enter(table, spec)  # its submitter may have died before that
    return Submission(spec, _first_rejected(job_dir), spec.num_rejected, created=False)


def _brings_rows_of(
    settings: Settings, job_dir: JobDir, source: Source, request: SubmitRequest
) -> bool:
    """Read the rows, which may have been read before, and hold them against those of a job."""
    if not job_dir.input.exists():  # lost with the power: the job itself will tell
        return True
    if isinstance(source, FileSource):
        source.file.seek(0)
    try:
        return is_input_of(job_dir, input_items(settings, source, request.format))
    except CorruptInput as error:
        raise InvalidJob(
            "idempotency_key",
            f"idempotency_key {request.idempotency_key!r} has made {job_dir.job_id}, and nobody "
            f"can tell whether of these rows: {error}",
        ) from error


def _first_rejected(job_dir: JobDir) -> list[RejectedLine]:
    return [
        line for line, _ in zip(job_dir.read_bad_lines(), range(MAX_REJECTED_SHOWN), strict=False)
    ]
