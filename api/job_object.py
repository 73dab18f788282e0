"""How a job looks over HTTP. Knows no Redis; rate and ETA come from two looks at the counters."""

import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

from ..jobs.model import JobSnapshot, JobState

_MAX_JOBS = 1_000
_WINDOW_S = 30.0


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    rows: int
    tokens: int


class RateGauge:
    """Remembers for running jobs where they stood up to half a minute ago.

    Shards land in bursts, so two neighbouring looks say little; and a mean since the start forgets
    a night in which no worker was there. Hence a window, and the mean until the window is filled.
    """

    def __init__(self) -> None:
        self._looks: OrderedDict[str, list[_Look]] = OrderedDict()

    def rates(self, job: JobSnapshot) -> tuple[float | None, float | None]:
        """Return rows and tokens per second, or None while too little is known."""
        rows = job.counts.succeeded + job.counts.failed
        now = _Look(time.time(), rows, job.completion_tokens)
        if job.started_at_ms is None:
            return None, None
        start = _Look(job.started_at_ms / 1000, 0, 0)
        if job.state.is_final:
            self._looks.pop(job.job_id, None)
            ended_s = (job.finished_at_ms or job.started_at_ms) / 1000
            return _slope(start, _Look(ended_s, rows, job.completion_tokens))
        looks = self._looks.setdefault(job.job_id, [start])
        self._looks.move_to_end(job.job_id)
        if len(self._looks) > _MAX_JOBS:
            self._looks.popitem(last=False)
        if now.at_s - looks[-1].at_s >= 1.0:
            looks.append(now)
        while len(looks) > 2 and now.at_s - looks[1].at_s > _WINDOW_S:
            del looks[0]
        return _slope(looks[0], now)

    def eta_s(self, job: JobSnapshot) -> float | None:
        """Return how long the rest takes at that rate; None while it does not run."""
        return _eta_s(job, self.rates(job)[0])


def _slope(start: _Look, end: _Look) -> tuple[float | None, float | None]:
    elapsed_s = end.at_s - start.at_s
    if elapsed_s <= 0 or end.rows <= start.rows:
        return None, None
    return (
        round((end.rows - start.rows) / elapsed_s, 3),
        round((end.tokens - start.tokens) / elapsed_s, 3),
    )


def _eta_s(job: JobSnapshot, rows_per_s: float | None) -> float | None:
    if job.state is not JobState.RUNNING or not rows_per_s:
        return None
    return round((job.counts.pending + job.counts.running) / rows_per_s, 1)


def job_object(job: JobSnapshot, metadata: dict[str, str], gauge: RateGauge) -> dict[str, Any]:
    """Return a job as clients see it. Times are unix seconds."""
    rows_per_s, tokens_per_s = gauge.rates(job)
    return {
        "id": job.job_id,
        "object": "job",
        "name": job.name,
        "status": job.state.value,
        "status_reason": job.status_reason,
        "model": job.model,
        "priority": job.priority,
        "created_at": _seconds(job.created_at_ms),
        "started_at": _seconds(job.started_at_ms),
        "finished_at": _seconds(job.finished_at_ms),
        "deadline": _seconds(job.deadline_ms),
        "counts": asdict(job.counts),
        "errors_by_code": dict(job.errors),
        "max_error_rate": job.max_error_rate,
        "retry_of": job.retry_of,
        "usage": {
            "prompt_tokens": job.prompt_tokens,
            "completion_tokens": job.completion_tokens,
            "cached_tokens": job.cached_tokens,
        },
        "rate": {"rows_per_s": rows_per_s, "tokens_per_s": tokens_per_s},
        "eta_s": _eta_s(job, rows_per_s),
        "output": {"path": f"{job.out}/{job.job_id}"},
        "error": job.error,
        "metadata": metadata,
    }


def _seconds(time_ms: int | None) -> float | None:
    return None if time_ms is None else time_ms / 1000
