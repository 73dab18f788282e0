"""What both faces of a job can tell without asking the server."""

from datetime import datetime

from ..jobs.model import Counts, JobState, RejectedLine
from .client_errors import JobFailed
from .records import JobRecord, Usage


class JobFacts:
    """A job as it stood when last looked at; `refresh` looks again."""

    def __init__(self, record: JobRecord) -> None:
        self.record = record

    @property
    def id(self) -> str:
        """The job's id, as in `job_01K3…`."""
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
        """Why it stands where it does, a code first: `error_rate: 12 of 100 rows failed ...`."""
        return self.record.status_reason

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.record.status.is_final

    @property
    def counts(self) -> Counts:
        """Rows by where they stand."""
        return self.record.counts

    @property
    def usage(self) -> Usage:
        """Tokens read and written so far."""
        return self.record.usage

    @property
    def rejected(self) -> tuple[RejectedLine, ...]:
        """Input lines that could not become rows; the first hundred, known to the submitter."""
        return self.record.rejected

    @property
    def output_path(self) -> str | None:
        """The directory, on the server's machine, with `rows/` and `_manifest.json`."""
        return self.record.output_path

    @property
    def created_at(self) -> datetime | None:
        """When it was accepted."""
        return self.record.created_at

    def raise_if_failed(self) -> None:
        """Raise `JobFailed` when the job as a whole failed; rows that failed alone do not count."""
        if self.status is JobState.FAILED:
            reason = self.record.error or "the server gave no reason"
            raise JobFailed(f"job {self.id} failed: {reason}", self.id, self.status)

    def __repr__(self) -> str:
        """Show the id and how far it is."""
        counts = self.counts
        done = counts.succeeded + counts.failed
        return f"<{type(self).__name__} {self.id} {self.status} {done:,}/{counts.total:,} rows>"
