"""Running again what failed of a job: chooses the rows, and makes a job of them.

A retry is a job of its own: it has its own shards, deadline and end, can be paused and cancelled,
and its rows land once by the same means as any other's. That keeps landing as simple as it is; what
it adds is one step before its end, in which its rows take the places of those that failed
(`joining`). Its input holds the rows under their old numbers. It lands in `_retries/`, below the
job that it retries, where those do not look who read all jobs of a directory.
"""

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import redis

from .control import job_lock, read_control
from .durable import fsync_directory, replace_file, storage_errors
from .errors import CorruptJob, InvalidJob, UnknownJob
from .idempotency import HeldKey, IdempotencyKey
from .job_dir import JobDir
from .job_table import JobTable
from .model import JobSpec, RowStatus, new_job_id
from .part_file import CorruptPart, read_part
from .results_dir import ResultsDir
from .sealed_input import CorruptShard, InputSealer, SealedRow
from .settings import Settings
from .tenants import Tenants

RETRIES = "_retries"  # below the rows of the job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Latest:
    """The last retry of a job, as `retry.json` in its directory names it."""

    job_id: str
    codes: list[str] | None


def retry(
    settings: Settings,
    table: JobTable,
    job_id: str,
    *,
    codes: frozenset[str] | None = None,
    name: str | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
) -> JobSpec:
    """Make a job of the rows that did not succeed; when it completes, they take their places.

    With `codes`, only of rows that failed with one of these; without, also of rows that were not
    run because the job ended before. As long as one retry of a job runs, the same wish finds it;
    under the same key also when it has ended. Its priority is the job's, or another, and no more
    than the tenant may have by now. Of a retry, the job that it retries is meant, where its rows
    stand.

    Raises:
        UnknownJob: there is no such job.
        InvalidJob: it has not ended, or has nothing to retry, or another retry runs, or the key
            has made another job, or a retry of other codes, or `codes` names none; or it is a
            retry of some codes only, or may be, and nobody says of which this is to be.
        CorruptShard: the input of all that there is to retry is damaged.
        StorageFull: there is no room for the rows.
    """
    if codes is not None and not codes:  # a list that came out empty is no wish for every row
        raise InvalidJob("codes", "[] names no code: name at least one code, or leave codes out")
    job_dir = JobDir(settings.jobs_dir, job_id)
    spec = job_dir.read_spec()
    if spec.retry_of is not None:
        job_id = _retried_by(spec, codes)
        job_dir = JobDir(settings.jobs_dir, job_id)
        spec = job_dir.read_spec()
    with job_lock(job_dir), _held(settings, spec.tenant, idempotency_key) as key:
        earlier = None if key is None else key.made()
        if earlier is not None:
            return _checked(job_id, codes, _durable(earlier))
        if job_dir.durable_final() is None:
            raise InvalidJob("job_id", f"{job_id} has not ended: wait for it, or cancel it first")
        running = _running(settings, job_dir, codes)
        if running is not None:
            if key is not None:
                key.bind(running.job_id)  # whoever asks again after its end means this one
            return running
        control = read_control(job_dir, spec)  # what it was changed to last
        spec = replace(
            spec,
            name=control.name,
            priority=control.priority,
            metadata=control.metadata,
            idempotency_key=idempotency_key,
        )
        made = _make(settings, job_dir, spec, codes, name, priority, key)
    try:
        table.create(made)
    except redis.RedisError as error:  # the keeper will find the directory
        logger.warning("%s is not in the job table yet: %s", made.job_id, error)
    return made


def _retried_by(spec: JobSpec, codes: frozenset[str] | None) -> str:
    """Name the job that is meant where a retry of it is to be retried."""
    job_id = spec.retry_of or ""
    if codes is None and spec.retry_codes != []:  # all of the job's rows would be more than these
        rows = f"rows of {job_id} (an older Penstock did not note which)"
        if spec.retry_codes is not None:
            rows = f"the rows of {job_id} that had failed with {', '.join(spec.retry_codes)}"
        raise InvalidJob(
            "job_id",
            f"{spec.job_id} is a retry itself, of {rows}: retry {job_id}, or name the codes that "
            "are meant",
        )
    return job_id


def was_retried(job_dir: JobDir) -> bool:
    """Tell whether rows of a job were ever run again."""
    return _marker(job_dir).exists()


def is_being_retried(settings: Settings, job_dir: JobDir) -> bool:
    """Tell whether a retry of a job has not ended."""
    return _latest(settings, job_dir) is not None


def retries_of(job_dir: JobDir) -> list[str]:
    """Name the retries of a job that were not removed, by where their rows land."""
    results = job_dir.linked_results()
    if results is None or results.name != job_dir.job_id:
        return []
    names = sorted(path.name for path in (results / RETRIES).glob("*"))
    return [name for name in names if _is_retry_of(job_dir, name)]


def _is_retry_of(job_dir: JobDir, name: str) -> bool:
    """Tell whether a directory among a job's rows is a retry's, which may be damaged."""
    try:
        return JobDir(job_dir.path.parent, name).read_spec().retry_of == job_dir.job_id
    except UnknownJob:
        return False
    except CorruptJob:
        return True


def _running(settings: Settings, job_dir: JobDir, codes: frozenset[str] | None) -> JobSpec | None:
    """Find the retry that runs."""
    latest = _latest(settings, job_dir)
    if latest is None:
        return None
    if latest.codes != _sorted(codes):
        raise InvalidJob("codes", f"another retry of it runs: {latest.job_id}; wait, or cancel it")
    return _durable(JobDir(settings.jobs_dir, latest.job_id))


def _durable(other: JobDir) -> JobSpec:
    with storage_errors(other.path):
        fsync_directory(other.path)  # whoever sealed it may have died before that
    return other.read_spec()


def _checked(job_id: str, codes: frozenset[str] | None, made: JobSpec) -> JobSpec:
    """Insist that the job which a key has made is a retry of this one, and of the same rows."""
    if made.retry_of != job_id:
        raise InvalidJob(
            "idempotency_key",
            f"the idempotency key has made {made.job_id}, which is no retry of {job_id}; "
            "take a new key",
        )
    known = made.retry_codes  # None: an older Penstock made it, and did not note of which rows
    if known is not None and known != (_sorted(codes) or []):
        raise InvalidJob(
            "idempotency_key",
            f"the idempotency key has made {made.job_id}, a retry of every row"
            f"{_with(known)}, not of every row{_with(codes)}; take a new key",
        )
    return made


@contextmanager
def _held(settings: Settings, tenant: str, key: str | None) -> Iterator[HeldKey | None]:
    if key is None:
        yield None
        return
    with IdempotencyKey.of(settings, tenant, key).lock() as held:
        yield held


def _latest(settings: Settings, job_dir: JobDir) -> _Latest | None:
    """Read which retry was made last, if it has not ended."""
    try:
        latest = msgspec.json.decode(_marker(job_dir).read_bytes(), type=_Latest)
    except FileNotFoundError:
        return None
    other = JobDir(settings.jobs_dir, latest.job_id)
    return latest if other.spec.exists() and other.read_final() is None else None


def _make(
    settings: Settings,
    job_dir: JobDir,
    spec: JobSpec,
    codes: frozenset[str] | None,
    name: str | None,
    priority: int | None,
    key: HeldKey | None,
) -> JobSpec:
    made_dir = JobDir(settings.jobs_dir, new_job_id())
    out = ResultsDir.of(spec).path / RETRIES
    results = ResultsDir(out / made_dir.job_id)
    try:
        made_dir.create()
        made_dir.link_results(results.path)
        results.create()
        sealer = _seal_rows(made_dir, _rows_to_retry(job_dir, spec, codes))
        if not sealer.num_rows:
            raise InvalidJob("codes", f"{spec.job_id} has no row to retry{_with(codes)}")
        tenant = Tenants(settings.tenants_dir).get(spec.tenant)
        made = replace(
            spec,
            job_id=made_dir.job_id,
            num_rows=sealer.num_rows,
            num_shards=sealer.num_shards,
            shard_rows=sealer.shard_rows,
            out=str(out),
            out_url=None,  # only what it makes of the other job is published
            created_at_ms=time.time_ns() // 1_000_000,
            num_rejected=0,
            name=name or f"retry of {spec.name or spec.job_id}"[:512],
            priority=tenant.capped(spec.priority if priority is None else priority),
            deadline_ms=None,
            max_error_rate=None,
            retry_of=spec.job_id,
            retry_codes=_sorted(codes) or [],
        )
        latest = msgspec.json.encode(_Latest(made.job_id, _sorted(codes)))
        replace_file(_marker(job_dir), latest)
        if key is not None:
            key.bind(made.job_id)
        made_dir.seal(made)
    except BaseException:
        made_dir.remove()  # before anyone else looks whether it was made
        results.remove()
        if key is not None:
            key.free()
        raise
    return made


def _seal_rows(made_dir: JobDir, rows: Iterator[SealedRow]) -> InputSealer:
    with storage_errors(made_dir.path):
        made_dir.bad_lines.touch()
        sealer = InputSealer(made_dir.input)
        try:
            for row in rows:
                sealer.add(row.row_index, row.custom_id, msgspec.json.encode(row.row).decode())
            sealer.close()
        except BaseException:
            sealer.abandon()
            raise
    return sealer


def _rows_to_retry(
    job_dir: JobDir, spec: JobSpec, codes: frozenset[str] | None
) -> Iterator[SealedRow]:
    """Yield the rows that did not succeed, in the order of the input, as far as it is intact."""
    results = ResultsDir.of(spec)
    num_rows, damaged = 0, None
    with job_dir.open_input() as sealed:
        for index in range(spec.num_shards):
            failed = _failed(results.part(index))
            if failed is None:
                chosen = set(sealed.row_indexes(index)) if codes is None else set()
            else:
                chosen = {row for row, code in failed.items() if codes is None or code in codes}
            if not chosen:
                continue
            try:
                rows = sealed.shard(index)
            except CorruptShard as error:
                logger.error("%s; its %d rows are not retried", error, len(chosen))
                damaged = error
                continue
            num_rows += len(chosen)
            yield from (row for row in rows if row.row_index in chosen)
    if damaged is not None and not num_rows:
        raise damaged


def _failed(part: Path) -> dict[int, str | None] | None:
    """Read which rows of a part failed, and why; None if it is not there, or cannot be read."""
    try:
        rows = read_part(part).select(["row_index", "status", "error"]).to_pylist()
    except CorruptPart:
        return None
    failed: dict[int, str | None] = {}
    for row in rows:
        if row["status"] == RowStatus.FAILED:
            failed.setdefault(row["row_index"], (row["error"] or {}).get("code"))
    return failed


def _marker(job_dir: JobDir) -> Path:
    return job_dir.path / "retry.json"


def _sorted(codes: frozenset[str] | None) -> list[str] | None:
    return None if codes is None else sorted(codes)


def _with(codes: Collection[str] | None) -> str:
    return "" if not codes else f" that failed with {', '.join(sorted(codes))}"
