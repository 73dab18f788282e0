"""What becomes of a job when one of its shards is in trouble. Knows the job table, no engine."""

from typing import Any

from .durable import StorageFull
from .ending import end
from .errors import UnknownJob
from .events import STATUS, JobEvents
from .job_table import JobTable
from .model import JobState
from .patience import Patience
from .settings import Settings


class JobAffairs:
    """Steps on whole jobs, by the one thread that has a worker's shards in custody."""

    def __init__(
        self, settings: Settings, table: JobTable, events: JobEvents, patience: Patience
    ) -> None:
        self._settings = settings
        self._table = table
        self._events = events
        self._patience = patience

    def fail(self, job_id: str, message: str) -> bool:
        """End a job as failed; returns whether that stands."""
        settings, table, failed = self._settings, self._table, JobState.FAILED
        try:
            self._patience.do(lambda: end(settings, table, job_id, failed, error=message))
        except UnknownJob:  # its directory is gone, so there is nothing that could revive it
            self._patience.do(lambda: table.finish(job_id, failed, message))
        except StorageFull as error:
            self.note(job_id, f"{message}; that the job has failed cannot be written: {error}")
            return False
        return True

    def wait_for_room(self, job_id: str, message: str) -> None:
        """Let a job pause: its shards run again when their rows can land."""
        if self._patience.do(lambda: self._table.block(job_id, message)):
            data = {"status": JobState.PAUSED, "status_reason": message}
            self.tell(job_id, STATUS, data)

    def note(self, job_id: str, trouble: str) -> None:
        """Say what holds a job up."""
        self._patience.do(lambda: self._table.note(job_id, trouble))

    def tell(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        """Publish an event of a job; it is news, not truth, so nobody waits for it."""
        self._patience.try_once(lambda: self._events.publish(job_id, kind, data))
