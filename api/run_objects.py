"""What we answer about runs of workflows, for the OpenAPI document. Knows shapes, makes none.

What workflows answer: see `workflow_objects`. Times are seconds since 1970.
"""

from typing import Any, Literal

from pydantic import Field

from ..jobs.model import JobState
from .described import Described
from .own_objects import JobPlace
from .shared_objects import Page


class RunUsage(Described):
    """Tokens, those of answers that were taken over from earlier runs left out."""

    prompt_tokens: int
    """Tokens of all prompts."""
    completion_tokens: int
    """Tokens of all answers."""


class RunCounts(Described):
    """Rows of a run."""

    input: int
    """Rows of all inputs."""
    output: int
    """Rows of the output so far."""
    rejected: int
    """Lines of the inputs that could not become rows."""


class RejectedInputRow(Described):
    """A line of an input that could not become a row."""

    input: str
    """Which input."""
    line: int
    """Which line of it, from 1; of Parquet, which row."""
    message: str
    """What is wrong with it."""


class RejectedInputRows(Described):
    """Lines of all inputs that could not become rows."""

    count: int
    """How many there are."""
    errors: list[RejectedInputRow]
    """The first of them."""


class StepShards(Described):
    """The pieces in which a step is worked on."""

    done: int
    """How many are done."""
    total: int | None
    """How many there are; null while nobody can know."""


class StepRows(Described):
    """Rows of a step."""

    in_: int = Field(alias="in")
    """How many it has taken."""
    out: int
    """How many it has made."""
    dropped: int
    """How many it has let go no further."""
    failed: int
    """How many have failed in it."""
    lost: int
    """How many of those go no further."""
    defaulted: int
    """How many of those go on with the step's default."""
    cached: int
    """How many were answered by an earlier run."""


class StepError(Described):
    """A row that failed."""

    row_id: str
    """Which row."""
    code: str
    """The error's code."""
    message: str
    """What went wrong."""


class RunStep(Described):
    """How far a step is."""

    id: str
    """Its id in the workflow."""
    type: str
    """Its type, as the workflow says it."""
    state: Literal["waiting", "running", "completed", "failed"]
    """Where it stands."""
    shards: StepShards
    """How many of its pieces are done."""
    rows: StepRows
    """Its rows, by what came of them."""
    errors_by_code: dict[str, int]
    """How many rows failed with which error code."""
    errors: list[StepError]
    """The first of them."""
    usage: RunUsage
    """Its tokens so far."""
    models: list[str]
    """The models that it asks."""


class Run(Described):
    """A run of a workflow as it stands."""

    id: str
    """By which requests name it."""
    object: Literal["workflow.run"]
    """What this is."""
    workflow: str
    """The workflow's name."""
    name: str | None
    """The name that it was given; null without one."""
    status: JobState
    """Where it stands."""
    status_reason: str | None
    """Why it stands there; null where nothing is to be said."""
    created_at: float | None
    """When it was submitted."""
    started_at: float | None
    """When something was first made of it; null before."""
    finished_at: float | None
    """When it ended; null before."""
    error: str | None
    """Why it failed; null where it did not."""
    counts: RunCounts
    """Its rows."""
    rejected: RejectedInputRows
    """Lines of its inputs that could not become rows."""
    is_preview: bool
    """Whether it takes only the first rows of its inputs, to show or to measure them."""
    priority: int
    """The larger goes first."""
    usage: RunUsage
    """Its tokens so far."""
    steps: list[RunStep]
    """How far each step is, in the order of the workflow."""
    output: JobPlace
    """Where its rows land."""
    metadata: dict[str, str]
    """The labels that it was given."""
    retry_of: str | None
    """The run whose failures it repeats; null where it is no retry."""


class RunList(Page):
    """A page of runs."""

    data: list[Run]
    """The runs of this page."""


class RunError(Described):
    """A line of an input that could not become a row, or a row that failed in a step."""

    code: str
    """The error's code."""
    message: str
    """What went wrong."""
    stage: str
    """At which stage of its work."""
    step: str = ""
    """In which step a row failed."""
    row_id: str = ""
    """Which row failed."""
    outcome: str = ""
    """What became of the row: `kept` without a value, `defaulted`, `dropped`, or `fatal` to all."""
    input: str = ""
    """Of which input a line is."""
    line: int = 0
    """Which line of it, from 1."""


class RunErrorPage(Described):
    """A page of what went wrong."""

    object: Literal["list"]
    """What this is."""
    data: list[RunError]
    """The errors, those of the inputs first."""
    has_more: bool
    """Whether there is another page."""
    next_cursor: str | None
    """What `after` takes for the next page; null behind the last."""


class RowTrace(Described):
    """What one step did for a row, or for one that it was made from."""

    step: str
    """The step."""
    row_id: str
    """The row."""
    parents: list[str]
    """The rows that it was made from."""
    requests: list[dict[str, Any]]
    """What was asked."""
    answers: list[Any]
    """What was answered to each; one that is not kept any more is told by its value."""
    value: Any
    """What the step made of it."""
    meta: Any
    """What else it noted; null where it notes nothing."""
    error: dict[str, Any] | None
    """Why it failed: `code`, `message` and `stage`; null where it did not."""


class RowHistory(Described):
    """The history of one row."""

    object: Literal["workflow.row"]
    """What this is."""
    run_id: str
    """The run."""
    row_id: str
    """The row."""
    steps: list[RowTrace]
    """What each step did for it, in their order; what it was made from comes before it."""
