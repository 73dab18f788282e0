"""What a workflow says: the one specification behind YAML, JSON and the Python builder.

    inputs  datasets by name; rows flow from there
    steps   each takes the rows of one step or input (`from`, by default the step before it) and
            adds a column under its own name (`as` names another); columns accumulate
    output  the step whose rows are the result

Shapes only. What fits together and what does not, `check` knows. A template is a text with
`{{ … }}` over `row`, `params` and, in a reduce, `rows`; an expression is such a text without the
braces (see `expressions`).
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

MAX_STEPS = 100
MAX_SAMPLES = 128

Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]
Template: TypeAlias = str
Expression: TypeAlias = str
OnError: TypeAlias = Literal["fail", "drop", "keep", "default"]


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One chat message; `content` is a template."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Template


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset that a run brings. `columns` are promised, and checked when it arrives."""

    type: Literal["dataset"] = "dataset"
    columns: dict[str, Literal["bool", "int64", "float64", "string", "json"]] = {}


class Retries(Struct, frozen=True, forbid_unknown_fields=True):
    """How often a row is tried again, by what went wrong.

    `transient` faults are those of the engine and of machines. An answer that is not what the
    `schema` asks for is `invalid_output`; the first try is then free in its form, and each further
    one is held to the schema token by token.
    """

    transient: Annotated[int, Meta(ge=0, le=20)] = 3
    invalid_output: Annotated[int, Meta(ge=0, le=5)] = 0


class Defaults(Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for every step that does not say otherwise."""

    model: str | None = None
    sampling: dict[str, Any] = {}
    on_error: OnError = "keep"
    retries: Retries = Retries()


class _Step(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """What all steps have."""

    id: Name
    from_: str | tuple[str, ...] | None = msgspec.field(name="from", default=None)
    as_: Name | None = msgspec.field(name="as", default=None)
    on_error: OnError | None = None
    default: Any = None  # the value of a row that failed, with on_error: default

    @property
    def column(self) -> str:
        """The column that the step adds."""
        return self.as_ or self.id


class _Asks(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all steps have that ask a model."""

    model: Template | None = None  # "{{ row.model }}" picks one of those that a `cross` lists
    prompt: Template | None = None
    messages: tuple[Message, ...] | None = None
    sampling: dict[str, Any] = {}
    retries: Retries | None = None
    cache: bool = True  # whether an answer of an earlier run may be taken for an equal request


class Generate(_Asks, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="generate"):
    """Ask a model, and keep its answer: a text, or a document where `schema` is given.

    With `n` above 1 every row becomes n rows, its children. `until` is an expression over a child:
    once it holds for one of them, no more of its siblings are made; `wave` says how many at a time.
    """

    n: int | Template = 1
    schema: dict[str, Any] | None = None  # JSON Schema, or {field: "string" | "int" | …}
    schema_ref: str | None = None  # one of the workflow's `schemas`
    choices: tuple[str, ...] | None = None
    regex: str | None = None
    until: Expression | None = None
    wave: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] = 1


class Judge(_Asks, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="judge"):
    """Ask a model about what others said.

    schema: a document, by default {"score": int, "reason": str} · reward: the number in the answer
    of a model that scores; `row.<id>.value` · pairwise: which of `candidates` (two expressions) is
    better, asked in both orders; `row.<id>.winner` is "first", "second" or "tie".
    """

    mode: Literal["schema", "reward", "pairwise"] = "schema"
    schema: dict[str, Any] | None = None
    schema_ref: str | None = None
    candidates: tuple[Expression, Expression] | None = None


class Embed(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="embed"):
    """Keep the vector of a text."""

    text: Template
    model: Template | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    retries: Retries | None = None
    cache: bool = True


class Map(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="map"):
    """Compute fields: `row.<id>.<field>` by an expression each, or by an operation by name.

    `op` names one that the operator of the workers has registered; a workflow never brings code.
    """

    set: dict[str, Expression] = {}
    op: str | None = None


class Filter(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="filter"):
    """Let rows pass for which an expression holds. Adds no column."""

    where: Expression


class Split(Struct, frozen=True, forbid_unknown_fields=True):
    """Cut a text in pieces of `size` units, which overlap by `overlap` of the same units.

    By default a piece has 1000 tokens, characters or words, and one line, paragraph or part.
    """

    field: Expression  # what to cut, such as row.text
    by: Literal["tokens", "characters", "words", "lines", "paragraphs", "separator"] = "characters"
    size: Annotated[int, Meta(ge=1)] | None = None
    overlap: Annotated[int, Meta(ge=0)] = 0
    separator: str | None = None

    @property
    def piece_size(self) -> int:
        """Units in a piece; more than `overlap`."""
        if self.size is not None:
            return self.size
        return 1000 if self.by in ("tokens", "characters", "words") else 1


class Expand(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="expand"):
    """Make many rows of one, its children: exactly one of the ways below.

    n: so many copies, `row.<id>.index` · explode: one per item of a list, `row.<id>.value` and
    `.index` · split: one per piece of a text, `.text`, `.index`, `.count` · cross: one per
    combination of lists, whose items become columns of their own.
    """

    n: int | Template | None = None
    explode: Expression | None = None
    split: Split | None = None
    cross: dict[Name, list[Any] | Template] | None = None
    max: Annotated[int, Meta(ge=1, le=100_000)] = 1_000  # children per row; more is the row's error


class Pick(Struct, frozen=True, forbid_unknown_fields=True):
    """Choose one row of a group: the first for which the expression is largest, smallest, true."""

    max: Expression | None = None
    min: Expression | None = None
    first: Expression | None = None


class Fold(Struct, frozen=True, forbid_unknown_fields=True):
    """Bound how much of a group one prompt is given; what is over is merged in several rounds."""

    max_tokens: Annotated[int, Meta(ge=16)] | None = None
    max_rows: Annotated[int, Meta(ge=2)] | None = None


class Reduce(_Asks, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="reduce"):
    """Make one row of a group: by `prompt` or `messages` over `rows`, by `agg`, or by `pick`.

    group_by `parent` gathers the children of each row again, and waits for them only; columns wait
    for all rows. `agg` gives fields `row.<id>.<field>`: count(), sum, mean, min, max, any, all,
    list, majority, first, last, each of an expression. A picked row stays what it was. The columns
    of the parent, or those grouped by, stay.
    """

    group_by: Literal["parent"] | tuple[str, ...] = "parent"
    order_by: Expression | None = None
    agg: dict[str, Expression] | None = None
    pick: Pick | None = None
    fold: Fold | None = None
    schema: dict[str, Any] | None = None
    schema_ref: str | None = None


class Join(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="join"):
    """Bring the rows of two steps together where `on` is equal: columns, or `row_id`.

    The columns of the second come under `row.<id>`. By `row_id` a row stays the row it was; by
    columns each match makes a child of it. Null is equal to nothing.
    """

    on: str | tuple[str, ...] | dict[str, str] = "row_id"  # a mapping: left column -> right column
    how: Literal["inner", "left", "semi", "anti"] = "inner"
    max: Annotated[int, Meta(ge=1, le=100_000)] = 1_000  # matches per row


class Concat(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="concat"):
    """Put the rows of several steps one behind the other; columns that one lacks are null.

    Each becomes a child, `17/<id>#<place of its step>`: two steps may have a row 17 both.
    """


class Dedupe(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="dedupe"):
    """Keep the first row of those whose `key` is equal. Adds no column."""

    key: Template


class Sample(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="sample"):
    """Keep a share of the rows, or so many of them, by chance. Adds no column."""

    fraction: Annotated[float, Meta(gt=0, le=1)] | None = None
    size: Annotated[int, Meta(ge=1)] | None = None
    seed: int = 0


class Limit(_Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="limit"):
    """Keep the first rows. Adds no column."""

    size: Annotated[int, Meta(ge=1)]


Step: TypeAlias = (
    Generate
    | Judge
    | Embed
    | Map
    | Filter
    | Expand
    | Reduce
    | Join
    | Concat
    | Dedupe
    | Sample
    | Limit
)


class Sink(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the result lands: a directory, or s3://bucket/prefix; by default beside other jobs."""

    uri: str
    type: Literal["parquet"] = "parquet"


class Output(Struct, frozen=True, forbid_unknown_fields=True):
    """What is the result: the rows of a step, all columns or those selected.

    `select` names columns or fields of them (`judge.score` lands as `judge_score`).
    """

    from_: str | None = msgspec.field(name="from", default=None)  # default: the last step
    select: tuple[str, ...] | None = None
    sink: Sink | None = None


class Workflow(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole specification."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=MAX_STEPS)]
    version: Literal[1] = 1
    description: str | None = None
    inputs: dict[Name, Input] = {}
    params: dict[Name, Any] = {}
    defaults: Defaults = Defaults()
    schemas: dict[Name, dict[str, Any]] = {}
    output: Output = Output()
    max_error_rate: Annotated[float, Meta(gt=0, le=1)] | None = None  # the run pauses beyond it
