"""What both faces of a job can tell without asking the server."""

from typing import TYPE_CHECKING

from ..jobs.model import Counts, JobState, RejectedLine
from .client_errors import JobFailed
from .record_facts import RecordFacts
from .records import JobRecord
from .wording import counted

if TYPE_CHECKING:
    from .progress import JobProgress


class JobFacts(RecordFacts[JobRecord]):
    """A job as it stood when last looked at; `refresh` looks again."""

    def __init__(self, record: JobRecord) -> None:
        super().__init__(record)
        self._rejected = record.rejected  # said once: by the answer to the submission

    @property
    def counts(self) -> Counts:
        """Rows by where they stand."""
        return self.record.counts

    @property
    def rejected(self) -> tuple[RejectedLine, ...]:
        """Input lines that could not become rows; the first hundred, known to the submitter."""
        return self._rejected

    def raise_if_failed(self) -> None:
        """Raise `JobFailed` when the job as a whole failed; rows that failed alone do not count."""
        if self.status is JobState.FAILED:
            reason = self.record.error or "the server gave no reason"
            raise JobFailed(f"job {self.id} failed: {reason}", self.id, self.status)

    def __repr__(self) -> str:
        """Show the id and how far it is."""
        counts = self.counts
        rows = f"{counts.succeeded + counts.failed:,}/{counts.total:,} rows"
        failed = f", {counts.failed:,} failed" if counts.failed else ""
        unparsed = f", {counts.unparsed:,} unparsed" if counts.unparsed else ""
        rejected = f", {counted(counts.rejected, 'line')} rejected" if counts.rejected else ""
        return f"<{type(self).__name__} {self.id} {self.status} {rows}{failed}{unparsed}{rejected}>"

    def _repr_html_(self) -> str:
        from .cards import job_card  # for notebooks only

        return job_card(self.record)

    def _board(self) -> "JobProgress":
        from .progress import JobProgress  # rich is slow to import

        return JobProgress()
