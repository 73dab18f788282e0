"""What a tenant's jobs have used, and what waits for whom. Reads the job table, changes nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .job_table import JobTable
from .model import JobSnapshot, JobState
from .removed_usage import RemovedJob

_JOBS_AT_A_TIME = 500
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


@dataclass(slots=True)
class Usage:
    """A sum over jobs."""

    jobs: int = 0
    rows_succeeded: int = 0
    rows_failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def add(self, job: JobSnapshot) -> None:
        """Count a job."""
        self.jobs += 1
        self.rows_succeeded += job.counts.succeeded
        self.rows_failed += job.counts.failed
        self.prompt_tokens += job.prompt_tokens
        self.completion_tokens += job.completion_tokens
        self.cached_tokens += job.cached_tokens

    def add_removed(self, job: RemovedJob) -> None:
        """Count a job of which only this is known, or several."""
        self.jobs += job.num_jobs
        for name in ("rows_succeeded", "rows_failed", *_TOKENS):
            setattr(self, name, getattr(self, name) + getattr(job, name))


@dataclass(slots=True)
class Line:
    """What waits and runs of one model, or for one tenant."""

    jobs: Counter[JobState] = field(default_factory=Counter)
    waiting_rows: int = 0
    running_rows: int = 0

    def add(self, job: JobSnapshot) -> None:
        """Count a job that has not ended."""
        self.jobs[job.state] += 1
        self.waiting_rows += job.counts.pending
        self.running_rows += job.counts.running


def used(
    table: JobTable,
    tenant: str,
    start_ms: int,
    end_ms: int,
    removed: Iterable[RemovedJob] = (),
) -> dict[str, Usage]:
    """Add up, by model, the jobs that a tenant made from `start_ms` on and before `end_ms`.

    The rows of a retry that has joined its job are counted there. `removed` are jobs that the
    table does not know any more.
    """
    reply: Any = table.redis.zrangebyscore(table.keys.jobs_of(tenant), start_ms, f"({end_ms}")
    by_model: dict[str, Usage] = {}
    for job in _snapshots(table, reply):
        if job.retry_of is None or job.state is not JobState.COMPLETED:
            by_model.setdefault(job.model, Usage()).add(job)
    known = frozenset(reply)
    for gone in removed:
        if start_ms <= gone.created_at_ms < end_ms and gone.job_id not in known:
            by_model.setdefault(gone.model, Usage()).add_removed(gone)
    return by_model


def waiting(table: JobTable) -> tuple[dict[str, Line], dict[str, Line]]:
    """Return what waits and runs now, by model and by tenant."""
    models: dict[str, Line] = {}
    tenants: dict[str, Line] = {}
    for job in _snapshots(table, table.open_jobs()):
        models.setdefault(job.model, Line()).add(job)
        tenants.setdefault(job.tenant, Line()).add(job)
    return models, tenants


def _snapshots(table: JobTable, job_ids: Iterable[str]) -> Iterator[JobSnapshot]:
    job_ids = list(job_ids)
    for first in range(0, len(job_ids), _JOBS_AT_A_TIME):
        found = table.snapshots(job_ids[first : first + _JOBS_AT_A_TIME])
        yield from (job for job in found if job is not None)
