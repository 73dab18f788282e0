"""How fast a model has answered on this installation. Knows workers and ended jobs, no estimate.

What workers gave when they had enough to do says most; else the quickest of earlier jobs
tells, among those with rows enough to keep an engine busy if there are any.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..jobs.job_table import JobTable
from ..jobs.model import JobSnapshot, JobState
from ..jobs.workers import WorkerInfo
from ..jobs.workflow.orders.order_names import run_of
from .wording import counted

_LOOKED_AT = 50  # jobs
_FEW_ROWS = 1_000  # of fewer, most time goes by while an engine fills and empties
_ENDED = (JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS)
HERE = "measured on this installation"


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """Tokens that a model writes in a second; `words` say where that is known from."""

    tokens_per_s: float
    words: str


def ended_jobs(table: JobTable, tenant: str, model: str) -> list[JobSnapshot]:
    """Read those of a tenant's last jobs that have answers of a model, newest first."""
    jobs = table.list(None, _LOOKED_AT, tenant=tenant, states=_ENDED)
    return [job for job in jobs if job.model == model and job.counts.succeeded]


def speed_of_workers(workers: Iterable[WorkerInfo], model: str) -> MeasuredSpeed | None:
    """Add up the most that those who serve a model gave; None if none has been busy."""
    rates = [
        worker.busy_tokens_per_s
        for worker in workers
        if worker.model == model and not worker.is_draining and worker.busy_tokens_per_s > 0
    ]
    if not rates:
        return None
    who = counted(len(rates), "worker")
    return MeasuredSpeed(
        sum(rates),
        f"{sum(rates):,.0f} tokens/s, {HERE}: the most that {who} of {model} gave in a second; "
        "jobs that are queued already come on top",
    )


def speed_of_jobs(jobs: Sequence[JobSnapshot]) -> MeasuredSpeed | None:
    """Take the quickest of some ended jobs of one model; None if none has written a token.

    One of few rows is taken only where there is no other: how long it took is mostly chance.
    """
    timed = [job for job in jobs if _tokens_per_s(job)]
    of_many_rows = [job for job in timed if job.counts.succeeded >= _FEW_ROWS]
    quickest = max(of_many_rows or timed, key=_tokens_per_s, default=None)
    if quickest is None:
        return None
    rate, num_rows = _tokens_per_s(quickest), quickest.counts.succeeded
    few = "; so few leave most of an engine idle: more go faster" if num_rows < _FEW_ROWS else ""
    of = run_of(quickest.job_id) or quickest.job_id
    return MeasuredSpeed(
        rate, f"{rate:,.0f} tokens/s, {HERE}, {counted(num_rows, 'row')} of {of}{few}"
    )


def _tokens_per_s(job: JobSnapshot) -> float:
    if job.started_at_ms is None or job.finished_at_ms is None:
        return 0.0
    return 1e3 * job.completion_tokens / max(1, job.finished_at_ms - job.started_at_ms)


def nothing_measured(model: str) -> str:
    """Say that no time can be told, and what would help."""
    return (
        f"no time can be told: no worker of {model} has been busy since it began, and no earlier "
        "job of it tells; ask again while a job runs (penstock plan reckons from data sheets)"
    )
