"""What both faces of a run can tell without asking the server."""

from typing import TYPE_CHECKING

from ..jobs.model import JobState
from .client_errors import JobFailed
from .record_facts import RecordFacts
from .workflow_records import RejectedInputLine, RunRecord, StepRecord

if TYPE_CHECKING:
    from .run_progress import RunProgress


class RunFacts(RecordFacts[RunRecord]):
    """A run as it stood when last looked at; `refresh` looks again."""

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """How far each step is, in the order of the workflow."""
        return self.record.steps

    def step(self, step_id: str) -> StepRecord:
        """Find a step by its id."""
        return self.record.step(step_id)

    @property
    def rejected(self) -> tuple[RejectedInputLine, ...]:
        """Lines of inputs that could not become rows; the first of them."""
        return self.record.rejected_lines

    def raise_if_failed(self) -> None:
        """Raise `JobFailed` when the run as a whole failed; rows that failed alone do not count."""
        if self.status is JobState.FAILED:
            reason = self.record.error or "the server gave no reason"
            raise JobFailed(f"run {self.id} failed: {reason}", self.id, self.status)

    def __repr__(self) -> str:
        """Show the id and how far it is."""
        record = self.record
        done = sum(step.state == "completed" for step in record.steps)
        return (
            f"<{type(self).__name__} {self.id} of {record.workflow} {self.status} "
            f"{done}/{len(record.steps)} steps>"
        )

    def _repr_html_(self) -> str:
        from .cards import run_card  # for notebooks only

        return run_card(self.record)

    def _board(self) -> "RunProgress":
        from .run_progress import RunProgress  # rich is slow to import

        return RunProgress()
