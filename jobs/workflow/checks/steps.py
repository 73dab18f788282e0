"""What each kind of step is checked for, and how it is planned."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from ...templates import TemplateError
from ..asking.fold import merged_column, texts_of
from ..expressions.errors import shown
from ..expressions.types import TEXT, Type
from ..spec import (
    MAX_SAMPLES,
    Concat,
    Dedupe,
    Defaults,
    Embed,
    Expand,
    Filter,
    Generate,
    Join,
    Judge,
    Limit,
    Map,
    OnError,
    Reduce,
    Sample,
)
from .asks import Asked, Schemas, check_asking
from .flow import Flow
from .plan import Planned, Planner
from .rows import (
    Shaped,
    check_aggregates,
    check_dedupe,
    check_expand,
    check_filter,
    check_groups,
    check_join,
    check_map,
    check_pick,
    check_sample,
    check_ways,
)
from .step import StepCheck


def check_step(
    check: StepCheck, on_error: OnError, defaults: Defaults, schemas: Schemas, planner: Planner
) -> Planned:
    """Check a step, and plan it; where something is wrong with it, as far as it goes."""
    spec = check.spec
    match spec:
        case Generate() | Judge() | Embed():
            return _asking(check, spec, on_error, defaults, schemas, planner)
        case Reduce():
            return _reduce(check, spec, on_error, defaults, schemas, planner)
        case _:
            return planner.shaped(check, on_error, _shaped(check))


def _shaped(check: StepCheck) -> Shaped:
    match check.spec:
        case Map() as spec:
            return check_map(check, spec)
        case Filter() as spec:
            return check_filter(check, spec)
        case Expand() as spec:
            return check_expand(check, spec)
        case Join() as spec:
            if len(check.flows) == 2:
                return check_join(check, spec)
        case Dedupe() as spec:
            return check_dedupe(check, spec)
        case Sample() as spec:
            return check_sample(check, spec)
        case Concat() | Limit():
            pass
    return Shaped(check.spec, {})


def _asking(
    check: StepCheck,
    spec: Generate | Judge | Embed,
    on_error: OnError,
    defaults: Defaults,
    schemas: Schemas,
    planner: Planner,
) -> Planned:
    asked = check_asking(check, spec, defaults, schemas, check.flow.row_type)
    retries = spec.retries or defaults.retries
    children = 0
    if isinstance(spec, Generate):
        number = _samples(check, spec)
        if number is None:  # which has been told, or is for the run to say
            check, number = replace(check, flows=(replace(check.flow, is_traced=False),)), 1
        else:
            _check_until(check, spec, number, asked)
        asked = _sampling(asked, number)
        children = number if number > 1 else 0
    return planner.asked(check, on_error, retries, asked, children)


def _sampling(asked: Asked, number: int) -> Asked:
    spec = msgspec.structs.replace(asked.spec, n=number)
    return Asked(spec, asked.models, asked.sampling, asked.schema, asked.value)


def _samples(check: StepCheck, spec: Generate) -> int | None:
    """Return how many answers there are for a row; None where that cannot be known."""
    number: Any = check.constant("n", spec.n) if isinstance(spec.n, str) else spec.n
    if isinstance(spec.n, str) and number is None:
        return None
    if type(number) is not int or not 1 <= number <= MAX_SAMPLES:
        check.tell("n", f"must be a whole number from 1 to {MAX_SAMPLES}, got {shown(number)}")
        return None
    return number


def _check_until(check: StepCheck, spec: Generate, number: int, asked: Asked) -> None:
    if spec.until is None:
        if spec.wave != 1:
            check.tell("wave", "it goes with `until`; without it all samples are made at once")
        return
    if number == 1:
        check.tell("until", "there is one sample only; give an `n` above 1")
    row = check.flow.adding(spec.id, {spec.column: asked.value}).row_type
    check.expression("until", spec.until, row, "truth")


def _reduce(
    check: StepCheck,
    spec: Reduce,
    on_error: OnError,
    defaults: Defaults,
    schemas: Schemas,
    planner: Planner,
) -> Planned:
    way = check_ways(check, spec)
    spec, kept = check_groups(check, spec)
    if kept is None:
        kept = replace(check.flow, is_open=True, is_traced=False)
    if way == "pick":
        check_pick(check, spec)
        return planner.reduced(check, on_error, spec, kept, None)
    if way != "prompt":
        return planner.reduced(check, on_error, spec, kept, check_aggregates(check, spec))
    fields: Mapping[str, Type] = {**check.flow.columns, "row_id": TEXT}
    item = Type.object_of(fields, is_open=check.flow.is_open)
    rows = Type("list", item=item)
    asked = check_asking(check, spec, defaults, schemas, kept.row_type, rows=rows)
    if spec.fold is not None:
        _check_fold(check, spec, kept)
    return planner.asked_reduced(check, on_error, spec.retries or defaults.retries, asked, kept)


def _check_fold(check: StepCheck, spec: Reduce, kept: Flow) -> None:
    fold = spec.fold
    if fold is None or (fold.max_rows is None and fold.max_tokens is None):
        check.tell("fold", "must say max_rows, or max_tokens, or both")
    with suppress(TemplateError):  # told where it stands
        merged = merged_column(texts_of(spec), check.flow.columns, kept.columns)
        if merged is None and not check.flow.is_open:
            check.tell(
                "fold",
                "merged answers take the place of a column of the rows, and the prompt reads none",
            )
