"""What a job's answers will come to, and how long that takes: told from earlier jobs and workers.

Knows finished jobs and what workers say of their speed; makes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..jobs.dry_run_report import DryRunReport
from ..jobs.errors import CorruptJob, UnknownJob
from ..jobs.job_dir import JobDir
from ..jobs.job_table import JobTable
from ..jobs.model import JobSnapshot, JobState, TaskSpec
from ..jobs.settings import Settings
from ..jobs.workers import WorkerInfo

_LOOKED_AT = 50  # jobs
_UNSURE = 1.25  # how much longer answers may be than those of one job before


@dataclass(frozen=True, slots=True)
class LearnedLengths:
    """Tokens that a row was answered with, on average, in each of some earlier jobs."""

    per_row: tuple[float, ...] = ()
    of_same_task: bool = False

    @property
    def p50(self) -> float | None:
        """What to expect of a row; None if there was no job."""
        return median(self.per_row) if self.per_row else None

    @property
    def p90(self) -> float | None:
        """What nine of ten jobs stay below."""
        if not self.per_row:
            return None
        ordered = sorted(self.per_row)
        high = ordered[math.ceil(0.9 * len(ordered)) - 1]
        return max(high, _UNSURE * median(ordered)) if len(ordered) < 10 else high


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job is likely to take; None is unknown. `rests_on` says how much it is worth."""

    output_tokens: int | None
    output_tokens_p90: int | None
    seconds_p50: float | None
    seconds_p90: float | None
    rests_on: list[str]


def learned_lengths(
    settings: Settings, table: JobTable, tenant: str, task: TaskSpec
) -> LearnedLengths:
    """Look at a tenant's last jobs of the model: at those of the same task, if there are any."""
    ended = (JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS)
    jobs = [
        job
        for job in table.list(None, _LOOKED_AT, tenant=tenant, states=ended)
        if job.model == task.model and job.counts.succeeded
    ]
    same = [job for job in jobs if _task_of(settings, job) == task]
    lengths = (job.completion_tokens / job.counts.succeeded for job in same or jobs)
    return LearnedLengths(tuple(lengths), of_same_task=bool(same))


def estimate(
    report: DryRunReport,
    learned: LearnedLengths,
    workers: Sequence[WorkerInfo] | None,
    model: str,
) -> Estimate:
    """Tell what the rows of a dry run will take; `workers` is None if they cannot be asked."""
    rests_on = [_said_of_lengths(learned, model)]
    rows = report.rows - report.row_errors.count - report.too_long.count if report.answers else 0
    likely = _capped(learned.p50, rows, report.output_at_most)
    most = _capped(learned.p90, rows, report.output_at_most)
    most = report.output_at_most if most is None else most
    if workers is None:
        rests_on.append("no time can be told: the queue does not answer; ask again soon")
        return Estimate(likely, most, None, None, rests_on)
    rates = [
        worker.busy_tokens_per_s
        for worker in workers
        if worker.model == model and not worker.is_draining and worker.busy_tokens_per_s > 0
    ]
    if not rates:
        rests_on.append(
            f"no time can be told: no worker of {model} has been busy since it began; ask again "
            "while a job runs"
        )
        return Estimate(likely, most, None, None, rests_on)
    rate = sum(rates)
    who = "1 worker" if len(rates) == 1 else f"{len(rates)} workers"
    rests_on.append(
        f"{rate:,.0f} tokens/s, the most that {who} of {model} gave in a second; jobs that are "
        "queued already come on top"
    )
    return Estimate(likely, most, _seconds(likely, rate), _seconds(most, rate), rests_on)


def _task_of(settings: Settings, job: JobSnapshot) -> TaskSpec | None:
    try:
        return JobDir(settings.jobs_dir, job.job_id).read_spec().task
    except (UnknownJob, CorruptJob):  # removed meanwhile, or nothing to learn from
        return None


def _capped(per_row: float | None, rows: int, most: int | None) -> int | None:
    if per_row is None:
        return None
    return min(round(per_row * rows), round(per_row * rows) if most is None else most)


def _seconds(tokens: int | None, rate: float) -> float | None:
    return None if tokens is None else round(tokens / rate, 1)


def _said_of_lengths(learned: LearnedLengths, model: str) -> str:
    num_jobs = len(learned.per_row)
    if not num_jobs:
        return f"no earlier job of {model} tells how long answers are"
    of_what = "the same task" if learned.of_same_task else "other tasks"
    jobs = "1 earlier job" if num_jobs == 1 else f"{num_jobs} earlier jobs"
    return f"answers of {learned.p50:,.0f} tokens a row, as in {jobs} of {model} with {of_what}"
