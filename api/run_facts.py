"""What both faces of a run can tell without asking the server."""

from .record_facts import RecordFacts
from .workflow_records import RunRecord, StepRecord


class RunFacts(RecordFacts[RunRecord]):
    """A run as it stood when last looked at; `refresh` looks again."""

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """How far each step is, in the order of the workflow."""
        return self.record.steps

    def step(self, step_id: str) -> StepRecord:
        """Find a step by its id."""
        return self.record.step(step_id)

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
