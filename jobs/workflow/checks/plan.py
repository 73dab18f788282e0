"""Turns a checked step into a planned one: what it waits for, in which region its rows lie.

local   needs one shard of each source      its rows stay in their region
ask     the same, and answers of models
gather  needs all rows                      its rows open a region
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ..computing.matching import is_by_row
from ..expressions.types import ANY, Type
from ..meta import META
from ..plan import GROUPS, ROWS, PlannedStep
from ..spec import Concat, Dedupe, Expand, Join, Limit, OnError, Reduce, Retries, Sample, Step
from .asks import META_TYPE, Asked
from .flow import Flow, concatenated
from .rows import Shaped
from .step import StepCheck


@dataclass(frozen=True, slots=True)
class Planned:
    """A step in the plan, with the step before it that was made for it, and its rows."""

    steps: tuple[PlannedStep, ...]
    flow: Flow


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans steps, each after its sources. `regions` numbers those that are opened."""

    regions: Iterator[int]

    def shaped(self, check: StepCheck, on_error: OnError, shaped: Shaped) -> Planned:
        """Plan a step that asks nobody."""
        spec, added = shaped.spec, check.adding(check.flow, shaped.added)
        flow = concatenated(check.flows) if isinstance(spec, Concat) else check.flow
        if _makes_children(spec):
            flow = flow.children(spec.id, added, shaped.max_children)
        else:
            flow = flow.adding(spec.id, added)
        waits = _waits(spec, check.flows)
        if waits:
            flow = flow.gathered(next(self.regions))
        kind = "gather" if waits else "local"
        return Planned((_step(check, spec, kind, flow, on_error, shaped.max_children),), flow)

    def asked(
        self, check: StepCheck, on_error: OnError, retries: Retries, asked: Asked, children: int
    ) -> Planned:
        """Plan a step that asks, and makes so many children of each row, or none."""
        flow = _answered(check, check.flow, asked, children)
        step = _step(check, asked.spec, "ask", flow, on_error, max(1, children))
        return Planned((_asking(step, retries, asked),), flow)

    def reduced(
        self, check: StepCheck, on_error: OnError, spec: Reduce, kept: Flow, value: Type | None
    ) -> Planned:
        """Plan a reduce to fields, or without a value to one row of the group, as it stands."""
        if value is None:
            flow = replace(
                check.flow, name=spec.id, width=kept.width, region_width=kept.region_width
            )
        else:
            flow = kept.adding(spec.id, check.adding(kept, {spec.column: value}))
        kind: Literal["gather", "local"] = "local"
        if _spreads(check, spec, kept):
            kind, flow = "gather", flow.gathered(next(self.regions))
        return Planned((_step(check, spec, kind, flow, on_error, 1),), flow)

    def asked_reduced(
        self,
        check: StepCheck,
        on_error: OnError,
        retries: Retries,
        asked: Asked,
        kept: Flow,
    ) -> Planned:
        """Plan a reduce by a prompt: one step brings groups together, one asks about them."""
        spec = asked.spec
        if not isinstance(spec, Reduce):
            raise TypeError(f"{spec.id} is no reduce")
        groups = kept.adding(spec.id + GROUPS, {ROWS: ANY})
        kind: Literal["gather", "local"] = "local"
        if _spreads(check, spec, kept):
            kind, groups = "gather", groups.gathered(next(self.regions))
        first = replace(
            _step(check, spec, kind, groups, on_error, 1), id=groups.name, is_internal=True
        )
        bare = {name: of for name, of in groups.columns.items() if name != ROWS}
        flow = _answered(check, replace(groups, columns=bare), asked, 0)
        last = replace(
            _step(check, spec, "ask", flow, on_error, 1),
            sources=(groups.name,),
        )
        return Planned((first, _asking(last, retries, asked)), flow)


def _answered(check: StepCheck, flow: Flow, asked: Asked, children: int) -> Flow:
    """Return rows with what models answered beside them."""
    column = asked.spec.column
    check.adding(flow, {column: asked.value})
    added = {column: asked.value, column + META: META_TYPE}
    if children:
        return flow.children(asked.spec.id, added, children)
    return flow.adding(asked.spec.id, added)


def _asking(step: PlannedStep, retries: Retries, asked: Asked) -> PlannedStep:
    return replace(
        step,
        models=asked.models,
        sampling=asked.sampling,
        schema=asked.schema,
        retries=retries,
    )


def _step(
    check: StepCheck,
    spec: Step,
    kind: Literal["ask", "local", "gather"],
    flow: Flow,
    on_error: OnError,
    max_children: int,
) -> PlannedStep:
    return PlannedStep(
        id=spec.id,
        spec=spec,
        kind=kind,
        sources=tuple(source.name for source in check.flows),
        region=flow.region,
        columns={name: of.column_kind for name, of in flow.columns.items()},
        on_error=on_error,
        max_children=max_children,
    )


def _makes_children(spec: Step) -> bool:
    """Whether rows become others, with ids of their own."""
    if isinstance(spec, Join):
        return spec.how in ("inner", "left") and not is_by_row(spec)
    return isinstance(spec, Expand | Concat)


def _waits(spec: Step, flows: tuple[Flow, ...]) -> bool:
    """Whether a step needs all rows before it can make any."""
    is_one_region = len({flow.region for flow in flows}) == 1
    match spec:
        case Dedupe() | Limit():
            return True
        case Sample():
            return spec.size is not None
        case Join():
            return not (is_one_region and is_by_row(spec))
        case Concat():
            return not is_one_region
        case _:
            return False


def _spreads(check: StepCheck, spec: Reduce, kept: Flow) -> bool:
    """Whether rows of a group may lie in several shards."""
    return spec.group_by != "parent" or check.flow.region != kept.region
