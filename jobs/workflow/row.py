"""A row on its way through a workflow: its lineage and its columns. Knows no file and no step.

17                  row 17 of the input
17/chunk#2          its third child in the step `chunk`
17/chunk#2/cand#0   that one's first child in `cand`
report#4            the fifth group of a reduce by columns, of many parents
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeAlias

from ..model import RequestError

MAX_PARENTS_NAMED = 1_000

Outcome: TypeAlias = Literal["kept", "defaulted", "dropped", "fatal"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `values` are the input's columns and what each step has added."""

    row_id: str
    values: Mapping[str, Any]
    parents: tuple[str, ...] = ()  # of a group's row: whom it was made of, the first so many

    @property
    def parent_id(self) -> str | None:
        """The row that this one was made from, if it was one."""
        parent, slash, _ = self.row_id.rpartition("/")
        return parent if slash else None

    @property
    def root(self) -> str:
        """The row of the input, or of a group, that it descends from."""
        return self.row_id.partition("/")[0]

    def child(self, step_id: str, index: int, added: Mapping[str, Any]) -> Self:
        """Make a child that has all columns and some more."""
        return replace(
            self,
            row_id=f"{self.row_id}/{step_id}#{index}",
            values={**self.values, **added},
            parents=(),
        )

    def with_values(self, added: Mapping[str, Any]) -> Self:
        """Return the same row with more columns."""
        return replace(self, values={**self.values, **added})


@dataclass(frozen=True, slots=True)
class Fault:
    """What a step could not do for a row.

    Attributes:
        outcome: kept: it goes on without a value · defaulted: with the step's default ·
            dropped: it goes no further · fatal: it ends the run.
        stand_in: the row that goes on in its place, if any does.
    """

    row_id: str
    error: RequestError
    outcome: Outcome = "kept"
    stand_in: str | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a step has made of some rows.

    `faults` are those that failed, whatever the step's policy made of them; with `on_error: fail`
    the first of them ends the run. `num_dropped` counts rows left out on purpose (a filter's).
    """

    rows: list[Row]
    faults: list[Fault] = field(default_factory=list)
    num_dropped: int = 0
