"""How a job is steered while it lives: paused, resumed, changed. On disk first, then in the table.

Whoever is told that a job pauses may wipe Redis the next moment: `control.json` keeps it. And if
Redis does not answer in between, the keeper tells the table later (`unsettled`).
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict, Unpack

import redis

from .control import PAUSED_BY_USER, Control, durable_control, job_lock, write_control
from .errors import InvalidJob, UnknownJob
from .events import STATUS, JobEvents
from .job_dir import JobDir
from .job_table import JobTable
from .model import JobSnapshot, JobState
from .reconciler import reconcile
from .settings import Settings
from .unsettled import begin_change, end_change

logger = logging.getLogger(__name__)


class Changes(TypedDict, total=False):
    """What is to be different about a job; what is not named stays as it is."""

    name: str | None
    metadata: dict[str, str]
    priority: int
    deadline_ms: int | None
    max_error_rate: float | None


_WHILE_IT_LIVES = {"priority": "priority", "deadline_ms": "deadline", "max_error_rate": ""}


def pause(settings: Settings, table: JobTable, job_id: str) -> JobSnapshot:
    """Begin nothing more of a job. Shards that are held go on to their end, and land.

    A job that has ended, or whose shards have all landed, is left as it is.

    Raises:
        UnknownJob: there is no such job.
        StorageFull: it could not be recorded, so the job goes on.
    """

    def step(control: Control, job: JobSnapshot | None) -> Control:
        if job is not None and not job.state.is_alive:
            return control
        return replace(control, pause_reason=PAUSED_BY_USER)

    return _steer(settings, table, job_id, step)


def resume(settings: Settings, table: JobTable, job_id: str) -> JobSnapshot:
    """Let a paused job go on. The rows that failed so far are not held against it any more.

    Raises:
        UnknownJob: there is no such job.
        StorageFull: it could not be recorded, so the job still pauses.
    """

    def step(control: Control, job: JobSnapshot | None) -> Control:
        control = replace(control, pause_reason=None)
        if job is None or job.state is not JobState.PAUSED:
            return control
        num_rows = job.counts.succeeded + job.counts.failed
        return replace(
            control,
            judged_from_rows=num_rows,
            judged_from_failed=job.counts.failed,
            judged_from_errors=job.errors,
        )

    return _steer(settings, table, job_id, step)


def change(
    settings: Settings, table: JobTable, job_id: str, **changes: Unpack[Changes]
) -> JobSnapshot:
    """Change what can be changed about a job; it acts at once.

    Shards that are queued already keep their place: they are a few per worker. One that has ended
    can be given another name and other metadata.

    Raises:
        UnknownJob: there is no such job.
        InvalidJob: it has ended, and what is to change would have no effect.
        StorageFull: it could not be recorded, so nothing has changed.
    """
    for field, shown in _WHILE_IT_LIVES.items():
        if field in changes and JobDir(settings.jobs_dir, job_id).read_final() is not None:
            name = shown or field
            raise InvalidJob(name, f"{job_id} has ended: another {name} would have no effect")
    return _steer(settings, table, job_id, lambda control, _: replace(control, **changes))


def _steer(
    settings: Settings,
    table: JobTable,
    job_id: str,
    step: Callable[[Control, JobSnapshot | None], Control],
) -> JobSnapshot:
    """Put another control in force, and tell the table; returns the job as it is then."""
    job_dir = JobDir(settings.jobs_dir, job_id)
    spec = job_dir.read_spec()
    with job_lock(job_dir):
        before = table.snapshot(job_id)
        control = durable_control(job_dir, spec)
        wanted = step(control, before)
        if wanted != control:
            begin_change(job_dir)
            write_control(job_dir, wanted)
        table.settle(job_id, wanted)
        end_change(job_dir)
    reconcile(settings, table, job_id)  # a table that was wiped meanwhile learns of it
    after = table.snapshot(job_id)
    if after is None:
        raise UnknownJob(job_id)
    if before is None or before.state is not after.state:
        _tell(table, after)
    return after


def _tell(table: JobTable, job: JobSnapshot) -> None:
    data = {"status": job.state, "status_reason": job.status_reason}
    try:
        JobEvents(table.redis, table.keys).publish(job.job_id, STATUS, data)
    except redis.RedisError as error:  # an event is news, not truth
        logger.warning("the followers of %s were not told: %s", job.job_id, error)
