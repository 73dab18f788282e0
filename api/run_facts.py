"""What both faces of a run can tell without asking the server."""

from ..jobs.model import JobState
from .records import Usage
from .workflow_records import RunRecord, StepRecord


class RunFacts:
    """A run as it stood when last looked at; `refresh` looks again."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    @property
    def id(self) -> str:
        """The run's id, as in `run_01K3…`."""
        return self.record.id

    @property
    def name(self) -> str | None:
        """The name it was given."""
        return self.record.name

    @property
    def status(self) -> JobState:
        """Where it stands; compares equal to plain strings."""
        return self.record.status

    @property
    def status_reason(self) -> str | None:
        """Why it stands where it does."""
        return self.record.status_reason

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.record.status.is_final

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """How far each step is, in the order of the workflow."""
        return self.record.steps

    @property
    def usage(self) -> Usage:
        """Tokens read and written so far."""
        return self.record.usage

    @property
    def output_path(self) -> str | None:
        """The directory, on the server's machine, with `rows/` and `steps/`."""
        return self.record.output_path

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
