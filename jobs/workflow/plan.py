"""A checked workflow: its steps in order, what each reads, adds, asks, and what it waits for.

Made by `check`, which has found nothing wrong with it. Rows travel in shards. In a region, shard
k of every step holds descendants of the rows in shard k of the region's first step, so a step may
go on as soon as that one shard is there. Only a `gather` waits for all rows, and opens a region.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .spec import Defaults, OnError, Output, Retries, Step, Workflow

INPUT = "inputs."  # before the name of an input, where it stands among sources
GROUPS = "__groups"  # behind a reduce's id: the step that brings the rows of a group together
ROWS = "__rows"  # the column in which it brings them

ColumnKind: TypeAlias = Literal["bool", "int64", "float64", "string", "json", "vector"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step, and what has been found out about it.

    ask: makes requests of models · local: computes from a shard · gather: needs all rows.

    Attributes:
        id: that of the step, or with `GROUPS` behind it.
        sources: the steps, or inputs with `INPUT` before their name, whose rows it takes.
        region: number of the region in which its rows lie.
        columns: all columns of its rows, in order. Where the kind is not sure it is json.
        models: all that it may ask; which of them a row asks, its template says.
        max_children: rows that it makes of one at most.
        is_internal: made by the plan, not written by the author.
    """

    id: str
    spec: Step
    kind: Literal["ask", "local", "gather"]
    sources: tuple[str, ...]
    region: int
    columns: Mapping[str, ColumnKind]
    on_error: OnError
    models: tuple[str, ...] = ()
    sampling: Mapping[str, Any] | None = None  # defaults and the step's own, as one
    schema: Mapping[str, Any] | None = None  # JSON Schema of the answers, if any
    retries: Retries = field(default_factory=Retries)
    max_children: int = 1
    is_internal: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow that can run. `steps` are in an order in which each comes after its sources."""

    workflow: Workflow
    params: Mapping[str, Any]
    steps: tuple[PlannedStep, ...]
    inputs: Mapping[str, Mapping[str, ColumnKind]]  # the columns of each input
    output: Output
    output_step: str
    output_columns: Mapping[str, ColumnKind]  # selected, under the names they land as
    shard_rows: int  # rows of an input's shard: fewer where steps make many of one

    def step(self, step_id: str) -> PlannedStep:
        """Find a step by its id."""
        return next(step for step in self.steps if step.id == step_id)

    @property
    def defaults(self) -> Defaults:
        """What holds where a step says nothing."""
        return self.workflow.defaults
