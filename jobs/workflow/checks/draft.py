"""A workflow as far as it could be read, and what is known of rows behind a step that is at fault.

One fault hides no other, and makes none: whoever comes behind a step at fault takes what it adds
for anything, and is told only what is wrong whatever that is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..expressions.types import ANY
from ..spec import Concat, Expand, Generate, Join, Reduce, Step, Workflow
from .flow import Flow
from .problems import Problem, Problems

UNKNOWN = Flow("", {}, is_open=True, region=-1, is_traced=False)  # rows of nobody knows where

_FIELD = re.compile(r"\w+")
_WITHOUT_EFFECT = frozenset(  # on what a step adds: whatever they say, it is of the same kind
    {
        *("prompt", "messages", "text", "model", "sampling", "retries", "cache", "dimensions"),
        *("until", "wave", "where", "key", "order_by", "fold", "size", "fraction", "seed"),
    }
)


@dataclass(frozen=True, slots=True)
class Remnant:
    """What is left of a step that is not whole.

    Attributes:
        sound: fields that are as they were written; what is wrong with them is wrong indeed.
        lost: those that were missing or of no use, in whose place there is a default.
    """

    sound: frozenset[str]
    lost: frozenset[str]


@dataclass(frozen=True, slots=True)
class Draft:
    """A workflow, with stand-ins for what could not be read; then it is never run.

    Attributes:
        remnants: of steps that are not whole, by their place.
        lost_defaults: fields of `defaults` that were of no use.
    """

    workflow: Workflow
    remnants: Mapping[int, Remnant] = field(default_factory=dict)
    lost_defaults: frozenset[str] = frozenset()


def place_of(step_id: str) -> str:
    """Say where a step stands; one that has no name has its place for an id, as in `[2]`."""
    return f"steps{step_id}" if is_nameless(step_id) else f"steps.{step_id}"


def is_nameless(step_id: str) -> bool:
    """Tell whether a step has its place for an id: nobody knows what others call it."""
    return step_id.startswith("[")


def told_of(
    found: Problems, step_id: str, remnant: Remnant | None, problems: Problems
) -> frozenset[str]:
    """Pass on what was found wrong with a step; return the fields that it is about.

    What is found because a field was lost is not passed on: why it was lost, has been told.
    """
    fields = remnant.lost if remnant is not None else frozenset[str]()
    for problem in found.found:
        about = _field_of(problem, step_id)
        if about is None or remnant is None or about in remnant.sound:
            problems.add(problem.where, problem.message)
            fields |= {about or "default"}
    return fields


def doubted(
    flow: Flow,
    step: Step,
    known: Iterable[Flow],
    fields: frozenset[str],
    remnant: Remnant | None,
) -> Flow:
    """Return the rows of a step of which some fields are at fault, as far as they can be known."""
    if isinstance(step, Generate) and "n" in fields:
        fields, flow = fields - {"n"}, replace(flow, is_traced=False)
    if fields <= _WITHOUT_EFFECT and not (isinstance(step, Reduce) and "prompt" in fields):
        return flow
    from_before = {name for each in known for name in each.columns}
    columns = {name: of if name in from_before else ANY for name, of in flow.columns.items()}
    is_unnamed = remnant is not None and "as" in remnant.lost  # nobody knows what it adds
    is_anything = is_unnamed or not fields.isdisjoint(("id", "type"))
    is_reshaped = is_anything or isinstance(step, Expand | Reduce | Join | Concat)
    return replace(
        flow,
        columns=columns,
        is_open=flow.is_open or is_reshaped,
        is_traced=flow.is_traced and not is_reshaped,
    )


def _field_of(problem: Problem, step_id: str) -> str | None:
    """Name the field of a step that a problem is about; None where it stands elsewhere."""
    place = f"{place_of(step_id)}."
    match = _FIELD.match(problem.where.removeprefix(place))
    return match[0] if match and problem.where.startswith(place) else None
