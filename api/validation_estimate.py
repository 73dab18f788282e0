"""What a job's answers will come to, and how long that takes: told from earlier jobs and workers.

Knows finished jobs and how fast the model was; makes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..jobs.dry_run_report import DryRunReport
from ..jobs.errors import CorruptJob, UnknownJob
from ..jobs.job_dir import JobDir
from ..jobs.job_table import JobTable
from ..jobs.model import JobSnapshot, TaskSpec
from ..jobs.settings import Settings
from ..jobs.workers import WorkerInfo
from .measured_speed import (
    MeasuredSpeed,
    ended_jobs,
    nothing_measured,
    speed_of_jobs,
    speed_of_workers,
)
from .wording import counted

_UNSURE = 1.25  # how much longer answers may be than those of one job before


@dataclass(frozen=True, slots=True)
class EarlierJobs:
    """What some earlier jobs of a model tell.

    Attributes:
        per_row: tokens that a row was answered with, on average, in each of them.
        of_same_task: they asked for what is asked for now.
        speed: how fast the quickest was; None if that is not known.
    """

    per_row: tuple[float, ...] = ()
    of_same_task: bool = False
    speed: MeasuredSpeed | None = None

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


def earlier_jobs(settings: Settings, table: JobTable, tenant: str, task: TaskSpec) -> EarlierJobs:
    """Look at a tenant's last jobs of the model: at those of the same task, if there are any."""
    jobs = ended_jobs(table, tenant, task.model)
    same = [job for job in jobs if _task_of(settings, job) == task]
    lengths = (job.completion_tokens / job.counts.succeeded for job in same or jobs)
    return EarlierJobs(tuple(lengths), of_same_task=bool(same), speed=speed_of_jobs(jobs))


def estimate(
    report: DryRunReport,
    earlier: EarlierJobs,
    workers: Sequence[WorkerInfo] | None,
    model: str,
) -> Estimate:
    """Tell what the rows of a dry run will take; `workers` is None if they cannot be asked."""
    rests_on = [_said_of_lengths(earlier, model)]
    rows = report.rows - report.row_errors.count - report.too_long.count if report.answers else 0
    likely = _capped(earlier.p50, rows, report.output_at_most)
    most = _capped(earlier.p90, rows, report.output_at_most)
    most = report.output_at_most if most is None else most
    speed = speed_of_workers(workers or (), model) or earlier.speed
    if speed is None:
        is_asked = workers is not None
        silence = "no time can be told: the queue does not answer; ask again soon"
        rests_on.append(nothing_measured(model) if is_asked else silence)
        return Estimate(likely, most, None, None, rests_on)
    rests_on.append(speed.words)
    rate = speed.tokens_per_s
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


def _said_of_lengths(earlier: EarlierJobs, model: str) -> str:
    num_jobs = len(earlier.per_row)
    if not num_jobs:
        return f"no earlier job of {model} tells how long answers are"
    of_what = "the same task" if earlier.of_same_task else "other tasks"
    jobs = counted(num_jobs, "earlier job")
    return f"answers of {earlier.p50:,.0f} tokens a row, as in {jobs} of {model} with {of_what}"
