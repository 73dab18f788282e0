"""What becomes of the rows that a step works on, by the step's policy. Knows no kind of step."""

from collections.abc import Callable
from typing import Any, TypeAlias

from ...model import RequestError
from ..plan import Plan, PlannedStep
from ..row import Applied, Fault, Row

StandIn: TypeAlias = Callable[[Any], Row | None]


class RowFailed(Exception):
    """A step cannot do its work for one row; its neighbours are not concerned."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.message)
        self.error = error

    @classmethod
    def because(cls, code: str, message: str, stage: str = "render") -> "RowFailed":
        """Say it in a code and in words."""
        return cls(RequestError(code, message, stage=stage))


class Ledger:
    """Collects the rows that go on, those left out, and those that failed.

    Attributes:
        rows: rows that go on, in order.
        faults: what failed, whether the row goes on or not.
        num_dropped: rows left out on purpose.
    """

    def __init__(self, step: PlannedStep) -> None:
        self._step = step
        self.rows: list[Row] = []
        self.faults: list[Fault] = []
        self.num_dropped = 0

    def note(self, row: Row, error: RequestError) -> None:
        """Tell of a fault of a row that does not decide what becomes of it."""
        self.faults.append(Fault(row.row_id, error))

    def fail(self, row: Row, error: RequestError, stand_in: StandIn) -> None:
        """Do with a failed row what the step's policy says.

        `stand_in` makes the row that goes on in its place, if any, with the value it is given.
        """
        match self._step.on_error:
            case "keep":
                outcome, row_instead = "kept", stand_in(None)
            case "default":
                outcome, row_instead = "defaulted", stand_in(self._step.spec.default)
            case "drop":
                outcome, row_instead = "dropped", None
            case "fail":
                outcome, row_instead = "fatal", None
        named = row_instead.row_id if row_instead is not None else None
        self.faults.append(Fault(row.row_id, error, outcome, named))
        if row_instead is not None:
            self.rows.append(row_instead)

    def take(self) -> tuple[list[Row], list[Fault]]:
        """Take out the rows and the faults that were entered since the last time."""
        taken = self.rows, self.faults
        self.rows, self.faults = [], []
        return taken

    def applied(self) -> Applied:
        """Return all of it."""
        return Applied(self.rows, self.faults, self.num_dropped)


def scope(plan: Plan, row: Row) -> dict[str, Any]:
    """Return what an expression or a template sees of a row."""
    return {"row": row.values, "params": plan.params}
