"""What may be said about each kind of step, by name: the keywords of the builder. Shapes only.

The names are those of the specification; only `as` needs the form `as_` in Python.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

OnError: TypeAlias = Literal["fail", "drop", "keep", "default"]
Schema: TypeAlias = Mapping[str, Any] | type


class WorkflowOptions(TypedDict, total=False):
    """What holds for the whole workflow."""

    description: str | None
    """What it is for."""
    params: Mapping[str, Any] | None
    """Values that a run may change, with their defaults; templates say `params.<name>`."""
    defaults: Mapping[str, Any] | None
    """`model`, `sampling`, `on_error` and `retries` of every step that does not say otherwise."""
    schemas: Mapping[str, Schema] | None
    """JSON Schemas that steps name in `schema_ref`."""
    max_error_rate: float | None
    """The run pauses when more of its rows failed."""


class StepOptions(TypedDict, total=False):
    """What every step takes."""

    as_: str | None
    """The name of the column, where it is not the step's id."""
    on_error: OnError | None
    """What becomes of a row that fails: the run fails, or the row is dropped, kept, or gets
    `default`."""
    default: Any
    """The value of a row that failed, with `on_error="default"`."""


class _AskOptions(StepOptions, total=False):
    model: str | None
    """Which model; a template may choose, as in `{{ row.model }}`."""
    prompt: str | None
    """A template, as in `{{ row.text }}`."""
    messages: Sequence[Mapping[str, str]] | None
    """Chat messages whose contents are templates; instead of `prompt`."""
    sampling: Mapping[str, Any] | None
    """Fields of `SamplingParams`, on top of the workflow's defaults."""
    retries: Mapping[str, int] | None
    """How often a row is tried again: `transient`, `invalid_output`."""
    cache: bool | None
    """Whether an answer of an earlier run may be taken for an equal request."""


class GenerateOptions(_AskOptions, total=False):
    """What a step may say that asks a model."""

    n: int | str | None
    """How many answers; with more than one every row becomes n rows."""
    schema: Schema | None
    """A JSON Schema, its short form or a pydantic model, that every answer follows."""
    schema_ref: str | None
    """The name of one of the workflow's schemas."""
    choices: Sequence[str] | None
    """The only answers that may be given."""
    regex: str | None
    """What every answer looks like."""
    until: str | None
    """An expression over a child: once it holds, no more of its siblings are made."""
    wave: int | None
    """How many siblings are made at a time."""


class JudgeOptions(_AskOptions, total=False):
    """What a step may say that judges."""

    mode: Literal["schema", "reward", "pairwise"] | None
    """A document, a number, or which of two is better."""
    schema: Schema | None
    """Of the document; by default a score and a reason."""
    schema_ref: str | None
    """The name of one of the workflow's schemas."""
    candidates: Sequence[str] | None
    """Two expressions, with `mode="pairwise"`."""


class EmbedOptions(StepOptions, total=False):
    """What a step may say that makes vectors."""

    text: str
    """A template."""
    model: str | None
    """Which model."""
    dimensions: int | None
    """How long the vectors are, for models that leave the choice."""
    retries: Mapping[str, int] | None
    """How often a row is tried again."""
    cache: bool | None
    """Whether a vector of an earlier run may be taken."""


class MapOptions(StepOptions, total=False):
    """What a step may say that computes."""

    set: Mapping[str, str] | None
    """Fields, by an expression each."""
    op: str | None
    """An operation that the operator of the workers has registered."""


class ExpandOptions(StepOptions, total=False):
    """What a step may say that makes many rows of one: one of the first four."""

    n: int | str | None
    """So many copies, with their number as `row.<id>.index`."""
    explode: str | None
    """One per item of a list, as `row.<id>.value` and `.index`."""
    split: Mapping[str, Any] | None
    """One per piece of a text: `field`, `by`, `size`, `overlap`, `separator`."""
    cross: Mapping[str, Any] | None
    """One per combination of lists, whose items become columns under their own names."""
    max: int | None
    """Children per row at most: 1,000 unless said; more of them are the row's error."""


class ReduceOptions(_AskOptions, total=False):
    """What a step may say that makes one row of many."""

    group_by: Literal["parent"] | Sequence[str] | None
    """`parent`, or columns."""
    order_by: str | None
    """An expression by which the rows of a group are ordered."""
    agg: Mapping[str, str] | None
    """Fields, by an aggregate each, as in `mean(row.score)`."""
    pick: Mapping[str, str] | None
    """`max`, `min` or `first`, with an expression: the row that is kept."""
    fold: Mapping[str, int] | None
    """How much of a group one prompt is given: `max_tokens`, `max_rows`."""
    schema: Schema | None
    """Of the answer to `prompt`."""
    schema_ref: str | None
    """The name of one of the workflow's schemas."""


class JoinOptions(StepOptions, total=False):
    """What a step may say that brings rows together."""

    on: str | Sequence[str] | Mapping[str, str] | None
    """Columns that must be equal, or `row_id`; a mapping from the left's to the right's names."""
    how: Literal["inner", "left", "semi", "anti"] | None
    """Which rows stay."""
    max: int | None
    """Matches per row at most: 1,000 unless said; more of them are the row's error."""


def check_options(given: Mapping[str, Any], known: type, what: str) -> None:
    """Refuse a keyword that nobody knows.

    Raises:
        TypeError: naming it, and those that there are.
    """
    unknown = set(given) - set(known.__annotations__)
    if unknown:
        names = ", ".join(known.__annotations__)
        raise TypeError(f"unknown option {min(unknown)!r} for {what}; there are {names}")
