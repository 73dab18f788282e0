"""What a sample of rows says about all of them: rows, tokens and time of each step.

Knows counts, no queue. What a step made of the sampled rows is taken for what it will make of
others; the band is two standard errors wide to either side, and nothing beyond what the
specification allows at most. What cannot be known from a sample is said so: how many different
keys there are, say.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean, pstdev
from typing import Any

from ..jobs.workflow.plan import INPUT, Plan, PlannedStep
from ..jobs.workflow.runs.report import StepProgress
from ..jobs.workflow.spec import Concat, Dedupe, Limit, Reduce, Sample

_BAND = 2.0  # standard errors
_SPREAD = 1.0  # of how many children a row has, relative to their mean, unless it is known
_TOKEN_SPREAD = 0.5  # of how many tokens an answer has


@dataclass(frozen=True, slots=True)
class Band:
    """A number that is not known for sure."""

    estimate: float
    low: float
    high: float

    def times(self, factor: "Band") -> "Band":
        """Multiply by another number whose error has nothing to do with this one's."""
        estimate = self.estimate * factor.estimate
        if estimate == 0:  # the sample has not come that far: anything up to the bounds may be
            is_nothing = 0 in (self.high, factor.high)
            return Band(0.0, 0.0, 0.0 if is_nothing else self.high * factor.high)
        return _around(estimate, math.hypot(self._relative_error, factor._relative_error))

    def at_most(self, limit: float) -> "Band":
        """Cut off what cannot be."""
        return Band(min(self.estimate, limit), min(self.low, limit), min(self.high, limit))

    @property
    def _relative_error(self) -> float:
        return (self.high - self.estimate) / self.estimate / _BAND


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """What a step will do. `seconds` is None where no worker says how fast its model is."""

    id: str
    rows_in: Band
    rows_out: Band
    at_most: float  # rows out, whatever the rows are
    prompt_tokens: Band
    completion_tokens: Band
    seconds: Band | None
    sampled_rows: int


def estimate(
    plan: Plan,
    sampled: Mapping[str, StepProgress],
    num_rows: Mapping[str, int],
    tokens_per_s: Mapping[str, float],
    spreads: Mapping[str, float] | None = None,
) -> list[StepEstimate]:
    """Project what a sample did onto inputs of so many rows, step by step.

    `spreads` says of steps how much the number of children varies, relative to its mean.
    """
    rows = {INPUT + name: _exactly(count) for name, count in num_rows.items()}
    bounds = {name: band.estimate for name, band in rows.items()}
    estimates = []
    for step in plan.steps:
        seen = sampled.get(step.id)
        sources = [rows[source] for source in step.sources if source in rows]
        rows_in = _joined(step, sources)
        bounds[step.id] = _bound(step, [bounds.get(source, 0.0) for source in step.sources])
        if seen is None:  # made by the plan: it brings together the groups of a step behind it
            groups = _groups(step, sampled)
            rows[step.id] = rows_in if groups is None else _rows_out(step, groups, rows_in, _SPREAD)
            continue
        spread = (spreads or {}).get(step.id, _SPREAD)
        rows[step.id] = _rows_out(step, seen, rows_in, spread).at_most(bounds[step.id])
        asked = rows_in.times(_per_row(seen.prompt_tokens, seen, _TOKEN_SPREAD))
        answered = rows_in.times(_per_row(seen.completion_tokens, seen, _TOKEN_SPREAD))
        estimates.append(
            StepEstimate(
                id=step.id,
                rows_in=rows_in,
                rows_out=rows[step.id],
                at_most=bounds[step.id],
                prompt_tokens=asked,
                completion_tokens=answered,
                seconds=_seconds(step, answered, tokens_per_s),
                sampled_rows=seen.rows_in,
            )
        )
    return estimates


def estimate_object(
    estimates: list[StepEstimate], *, sample_rows: int, rests_on: list[str]
) -> dict[str, Any]:
    """Return a plan's figures as clients see them."""
    steps = [_rounded(asdict(each)) for each in estimates]
    totals = {
        name: _rounded(asdict(_sum([getattr(each, name) for each in estimates])))
        for name in ("prompt_tokens", "completion_tokens")
    }
    times = [each.seconds for each in estimates if each.completion_tokens.high > 0]
    known = [time for time in times if time is not None]
    seconds = _rounded(asdict(_sum(known))) if len(known) == len(times) else None
    return {
        "object": "workflow.plan",
        "sample_rows": sample_rows,
        "steps": steps,
        "total": {**totals, "seconds": seconds},
        "rests_on": rests_on,
    }


def spread_of(parent_ids: Sequence[str | None]) -> float:
    """Tell from the parents of some rows how much the number of children varies."""
    counts = list(Counter(parent_ids).values())
    return pstdev(counts) / mean(counts) if counts else _SPREAD


def _groups(step: PlannedStep, sampled: Mapping[str, StepProgress]) -> StepProgress | None:
    """Tell how many rows of the sample came together in how many groups: those that were asked."""
    source, behind = sampled.get(step.sources[0]), sampled.get(step.spec.id)
    if source is None or behind is None:
        return None
    return replace(behind, rows_in=source.rows_out, rows_out=behind.rows_in)


def _rows_out(step: PlannedStep, seen: StepProgress, rows_in: Band, spread: float) -> Band:
    match step.spec:
        case Limit(size=size):
            return rows_in.at_most(size)
        case Sample(size=int(size)):
            return rows_in.at_most(size)
        case Sample(fraction=float(share)):
            return rows_in.times(_around(share, _share_error(share, rows_in.estimate)))
    if seen.rows_in == 0:
        return Band(0.0, 0.0, math.inf) if rows_in.estimate else _exactly(0)
    if step.kind == "gather" and 2 * seen.rows_out < seen.rows_in:
        # The sample has met most groups, or there are many more: both may be. Keys are mostly of
        # a row's own, so that what repeats among few repeats among many.
        is_keys = isinstance(step.spec, Dedupe)
        likely = rows_in.estimate * seen.rows_out / seen.rows_in if is_keys else seen.rows_out
        return Band(likely, seen.rows_out, rows_in.high)
    ratio = seen.rows_out / seen.rows_in
    is_parents = isinstance(step.spec, Reduce) and step.spec.group_by == "parent"
    if is_parents or ratio in (1.0, float(step.max_children)):
        return rows_in.times(_exactly(ratio))
    if ratio < 1:
        return rows_in.times(_around(ratio, _share_error(ratio, seen.rows_in)))
    return rows_in.times(_around(ratio, spread / math.sqrt(seen.rows_in)))


def _per_row(total: int, seen: StepProgress, spread: float) -> Band:
    num_rows = seen.rows_in
    return _around(total / num_rows, spread / math.sqrt(num_rows)) if num_rows else _exactly(0)


def _share_error(share: float, num_rows: float) -> float:
    """Give the standard error of a share, relative to it; of none at all, that of one row."""
    num_rows = max(1.0, num_rows)
    share = min(max(share, 1 / (num_rows + 2)), 1.0)
    return math.sqrt((1 - share) / (share * num_rows))


def _joined(step: PlannedStep, sources: list[Band]) -> Band:
    if not sources:
        return _exactly(0)
    return _sum(sources) if isinstance(step.spec, Concat) else sources[0]


def _bound(step: PlannedStep, sources: list[float]) -> float:
    if isinstance(step.spec, Concat):
        return sum(sources)
    rows = (sources or [0.0])[0] * step.max_children
    size = getattr(step.spec, "size", None)
    return min(rows, size) if isinstance(size, int) else rows


def _seconds(step: PlannedStep, tokens: Band, tokens_per_s: Mapping[str, float]) -> Band | None:
    if not step.models:
        return _exactly(0)
    rates = [tokens_per_s[model] for model in step.models if tokens_per_s.get(model)]
    if len(rates) < len(step.models):
        return None
    s_per_token = mean(1 / rate for rate in rates)  # each model is asked equally often
    return tokens.times(_exactly(s_per_token))


def _exactly(value: float) -> Band:
    return Band(value, value, value)


def _around(value: float, standard_error: float) -> Band:
    width = _BAND * standard_error
    return Band(value, max(0.0, value * (1 - width)), value * (1 + width))


def _sum(bands: list[Band]) -> Band:
    """Add up; steps of one workflow err together, so their bands are added as well."""
    return Band(
        sum(band.estimate for band in bands),
        sum(band.low for band in bands),
        sum(band.high for band in bands),
    )


def _rounded(value: Any) -> Any:
    match value:
        case dict():
            return {name: _rounded(item) for name, item in value.items()}
        case float() if math.isinf(value):
            return None
        case float():
            return round(value, 1)
    return value
