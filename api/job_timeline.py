"""How a job's history looks over HTTP, and what it says of the time that is left. Knows no file."""

from collections.abc import Sequence
from typing import Any

from ..jobs.timeline import Moment, Timeline

_LOOKED_AT = 20  # the newest moments, by which what is left is judged
_LEAST = 4  # whole ones, before anything is said
_TOGETHER = 3  # rows land in bursts: neighbours are taken as one


def timeline_object(
    job_id: str, timeline: Timeline, rows_left: int, estimate_s: float | None = None
) -> dict[str, Any]:
    """Return a timeline as clients see it. Times are unix seconds, latencies milliseconds."""
    return {
        "object": "job.timeline",
        "job_id": job_id,
        "step_s": timeline.step_ms / 1000,
        "points": [_point(moment) for moment in timeline.moments],
        "eta": _eta(timeline.moments, rows_left, estimate_s),
        "workers": [
            {"name": name, "rows": rows} for name, rows in sorted(timeline.workers.items())
        ],
        "sample": {
            "parts": timeline.parts_read,
            "of_parts": timeline.parts_landed,
            "rows": timeline.rows_read,
            "of_rows": timeline.rows_landed,
        },
    }


def eta_band_s(
    moments: Sequence[Moment], rows_left: int, estimate_s: float | None = None
) -> tuple[float, float] | None:
    """Say how long the rest takes at the best and at the worst speed of late; None: too early.

    Moments in which nothing landed count as long as any other has something to say. An estimate is
    made from another span, so the band is widened where it misses that.
    """
    whole = [moment.rows_per_s for moment in moments[:-1]][-_LOOKED_AT:]
    if len(whole) < _LEAST or rows_left <= 0:
        return None
    runs = range(len(whole) - _TOGETHER + 1)
    speeds = [sum(whole[first : first + _TOGETHER]) / _TOGETHER for first in runs]
    times_s = [round(rows_left / speed, 1) for speed in speeds if speed > 0]
    if not times_s:
        return None
    if estimate_s is not None:
        times_s.append(estimate_s)
    return min(times_s), max(times_s)


def _eta(
    moments: Sequence[Moment], rows_left: int, estimate_s: float | None
) -> dict[str, float | None] | None:
    band = eta_band_s(moments, rows_left, estimate_s)
    if band is None:
        return None
    return {"estimate_s": estimate_s, "low_s": band[0], "high_s": band[1]}


def _point(moment: Moment) -> dict[str, Any]:
    return {
        "at": moment.at_ms / 1000,
        "rows": round(moment.rows, 1),
        "failed": round(moment.failed, 1),
        "rows_per_s": round(moment.rows_per_s, 3),
        "tokens_per_s": round(moment.tokens_per_s, 3),
        "latency_p50_ms": _rounded(moment.latency_p50_ms),
        "latency_p95_ms": _rounded(moment.latency_p95_ms),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
