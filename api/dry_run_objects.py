"""What a dry run answers, for the OpenAPI document. Knows shapes, makes none.

Lines count from 1; of Parquet they count rows.
"""

from typing import Literal

from .described import Described
from .own_objects import RejectedRow


class BadLines(Described):
    """Lines that cannot become rows."""

    count: int
    """How many there are."""
    errors: list[RejectedRow]
    """The first hundred, with what is wrong."""


class Refusal(Described):
    """Why the job as a whole would be refused."""

    param: str
    """Which field of the request is at fault."""
    message: str
    """What is wrong with it."""


class RowFault(Described):
    """An error that rows would have."""

    code: str
    """The error's code, as a failed row tells it."""
    param: str | None
    """Which part of the row's request is at fault; null where it is none alone."""
    message: str
    """What is wrong with it."""
    count: int
    """How many rows would have it."""
    lines: list[int]
    """The first ten of those rows."""


class RowFaults(Described):
    """Rows that would fail before the model sees them."""

    count: int
    """How many there are."""
    kinds: list[RowFault]
    """The same by what is wrong with them."""


class LongRow(Described):
    """A row whose prompt leaves no room for an answer."""

    line: int
    """Where it stands in the input."""
    tokens: int
    """How many tokens its prompt has."""


class LongRows(Described):
    """Rows over the context."""

    count: int
    """How many there are."""
    context_window: int | None
    """How many tokens the model has room for; null where nobody knows it."""
    rows: list[LongRow]
    """The first hundred."""
    cut_short: int
    """How many rows fit, but not with all tokens that they may answer with (`max_tokens`)."""


class Repeat(Described):
    """A row that says what an earlier one says."""

    line: int
    """Where it stands in the input."""
    same_as: int
    """Where the earlier one stands."""
    id: str | None
    """The row's `custom_id`; null without one."""


class Repeats(Described):
    """Rows that repeat an earlier one."""

    count: int
    """How many there are."""
    exact: bool
    """Whether they were counted; else it is an estimate."""
    examples: list[Repeat]
    """The first twenty."""


class RepeatedRows(Repeats):
    """Rows that ask what an earlier one asks."""

    share: float
    """How many of all rows they are, from 0 to 1."""


class InputTokens(Described):
    """Tokens of all prompts, chat template included."""

    total: int
    """How many there are."""
    exact: bool
    """Whether every row was tokenized; else the others are taken to be like those that were."""
    counted_rows: int
    """How many rows were tokenized."""
    longest: int
    """How many tokens the longest prompt has."""


class PrefixReuse(Described):
    """Tokens that a prefix cache would save if it had room for all, of those of the first rows."""

    tokens: int
    """How many it would save."""
    of_tokens: int
    """How many those rows have."""
    rows: int
    """How many rows were looked at."""
    share: float
    """The first of the second, from 0 to 1."""


class ExpectedOutput(Described):
    """Tokens of all answers: the bound, and what earlier jobs make likely."""

    at_most: int | None
    """What `max_tokens` allows; null without a bound."""
    expected: int | None
    """What earlier jobs make likely; null where there were none."""
    p90: int | None
    """What nine of ten jobs stay below; where there were none, the bound."""


class ExpectedSeconds(Described):
    """How long the rows may take by themselves."""

    p50: float | None
    """What every other job stays below; null where that is not known."""
    p90: float
    """What nine of ten jobs stay below; where there were none, for answers up to the bound."""


class JobValidation(Described):
    """What a dry run has found; with `complete` false, of the first rows only."""

    object: Literal["job.validation"]
    """What this is."""
    model: str
    """The model that would be asked."""
    ok: bool
    """Whether all of the input was read, and nothing is wrong with it."""
    complete: bool
    """Whether all of the input was read."""
    stopped: str | None
    """Why not all of it was read; null where it was."""
    rows: int
    """How many lines are rows, whatever is wrong with them."""
    refusal: Refusal | None
    """Why the job as a whole would be refused; null where it would be taken."""
    bad_lines: BadLines
    """Lines of the input that cannot become rows."""
    row_errors: RowFaults
    """Rows that would fail before the model sees them, by what is wrong."""
    too_long: LongRows
    """Rows that have no room in the model's context."""
    duplicates: RepeatedRows
    """Rows that ask the model what an earlier one asks."""
    duplicate_ids: Repeats
    """Rows with the `custom_id` of an earlier one."""
    input_tokens: InputTokens | None
    """Tokens of all prompts; null without a tokenizer."""
    output_tokens: ExpectedOutput
    """Tokens of all answers."""
    prefix_reuse: PrefixReuse | None
    """What prompts share; null without a tokenizer."""
    seconds: ExpectedSeconds | None
    """How long it may take; null where nothing was measured."""
    rests_on: list[str]
    """What the estimates rest on, in words."""
    unchecked: list[str]
    """What could not be looked at, in words."""
    warnings: list[str]
    """What is allowed and hardly meant, in words: a template that names no column, say."""
