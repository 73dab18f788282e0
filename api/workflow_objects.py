"""What we answer about workflows, for the OpenAPI document. Knows shapes, makes none.

What runs of them answer: see `run_objects`.
"""

from typing import Any, Literal

from .described import Described
from .run_objects import RowTrace, Run
from .shared_objects import Page


class Workflow(Described):
    """One version of a workflow that is kept."""

    id: str
    """The name again."""
    object: Literal["workflow"]
    """What this is."""
    name: str
    """By which requests name it."""
    version: int
    """Which version it is, from 1."""
    created_at: float
    """When this version was made."""
    workflow: dict[str, Any]
    """The specification."""


class WorkflowList(Page):
    """All workflows that are kept; the list is whole."""

    data: list[Workflow]
    """The newest version of each, by name."""


class WorkflowCheck(Described):
    """What is known of a workflow in which nothing is wrong."""

    object: Literal["workflow.check"]
    """What this is."""
    name: str
    """The workflow's name."""
    valid: Literal[True]
    """Always true: what is wrong is told by a refusal."""
    columns_known: bool
    """Whether the columns of all inputs are known, so that they could be checked too."""
    steps: list[dict[str, Any]]
    """Its steps, in an order in which each comes behind its sources."""
    output: dict[str, Any]
    """The `columns` of the output, by their types, and the step that they come `from`."""


class PreviewStep(Described):
    """The first rows of a step."""

    id: str
    """Its id in the workflow."""
    type: str
    """Its type."""
    rows: list[RowTrace]
    """What it did for the first twenty."""


class WorkflowPreview(Described):
    """What the first rows of the inputs become."""

    object: Literal["workflow.preview"]
    """What this is."""
    complete: bool
    """Whether it has come to its end; else look again."""
    run: Run
    """The run that does it."""
    steps: list[PreviewStep]
    """The rows of each step so far."""


class Band(Described):
    """A number that is not known for sure."""

    estimate: float | None
    """What is likely; null without a bound."""
    low: float | None
    """What it is at least."""
    high: float | None
    """What it is at most; null without a bound."""


class StepEstimate(Described):
    """What a step will do."""

    id: str
    """Its id in the workflow."""
    rows_in: Band
    """Rows that it takes."""
    rows_out: Band
    """Rows that it makes."""
    at_most: float | None
    """The most rows that it can make, whatever they are; null without a bound."""
    prompt_tokens: Band
    """Tokens of its prompts."""
    completion_tokens: Band
    """Tokens of its answers."""
    seconds: Band | None
    """How long its answers take; null where no worker says how fast its model is."""
    sampled_rows: int
    """How many rows of the sample it has taken."""


class PlanTotal(Described):
    """What all steps take together."""

    prompt_tokens: Band
    """Tokens of all prompts."""
    completion_tokens: Band
    """Tokens of all answers."""
    seconds: Band | None
    """How long all answers take; null where that is not known of some step."""


class WorkflowPlan(Described):
    """What a sample says about all rows."""

    object: Literal["workflow.plan"]
    """What this is."""
    complete: bool
    """Whether the sample has come to its end; else look again."""
    sample_rows: int
    """How many rows the sample has."""
    num_rows: dict[str, int]
    """For how many rows of each input this is."""
    steps: list[StepEstimate]
    """What each step will do."""
    total: PlanTotal
    """What they take together."""
    rests_on: list[str]
    """What the estimates rest on, in words."""
    run: Run
    """The run of the sample."""
