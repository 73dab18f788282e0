"""What becomes of a job when one of its shards is in trouble. Knows the job table, no engine."""

import logging
import socket
from typing import Any

from .durable import StorageFull
from .ending import end, tidy
from .errors import UnknownJob
from .events import STATUS, JobEvents
from .installation import is_elsewhere, whereabouts
from .job_dir import JobDir
from .job_table import JobTable
from .model import JobState
from .patience import Patience
from .settings import Settings

logger = logging.getLogger(__name__)


class JobAffairs:
    """Steps on whole jobs, by the one thread that has a worker's shards in custody.

    Attributes:
        is_elsewhere: whether jobs that are not found here are on another disk.
    """

    def __init__(
        self, settings: Settings, table: JobTable, events: JobEvents, patience: Patience
    ) -> None:
        self._settings = settings
        self._table = table
        self._events = events
        self._patience = patience
        self.is_elsewhere = False

    def look_around(self) -> None:
        """Find out whether this process has the queue's data directory, as far as Redis says."""
        found = self._patience.try_once(self._judge_place)
        if found is not None:
            self.is_elsewhere = found

    def fail(self, job_id: str, message: str) -> bool:
        """End a job as failed; returns whether that stands.

        One that is not found is over only if this is the disk on which it should be.
        """
        settings, table, failed = self._settings, self._table, JobState.FAILED
        try:
            self._patience.do(lambda: end(settings, table, job_id, failed, error=message))
        except UnknownJob:
            self.is_elsewhere = self._patience.do(self._judge_place) is not False
            if self.is_elsewhere:
                trouble = (
                    f"a worker at {socket.gethostname()} cannot run it: {whereabouts(settings)}"
                )
                logger.error("%s is not found here: %s", job_id, whereabouts(settings))
                self.note(job_id, trouble)
                return False
            # Its directory is gone, so there is nothing that could revive it.
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

    def tidy(self, job_id: str) -> None:
        """Remove what a job that has ended needs no more where its rows land."""
        try:
            tidy(JobDir(self._settings.jobs_dir, job_id))
        except OSError as error:  # the sweep comes here, too
            logger.warning("%s is not tidied up: %s", job_id, error)

    def tell(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        """Publish an event of a job; it is news, not truth, so nobody waits for it."""
        self._patience.try_once(lambda: self._events.publish(job_id, kind, data))

    def _judge_place(self) -> bool:
        try:
            return is_elsewhere(self._settings, self._table)
        except OSError:  # a disk that does not even tell this is none to judge by
            return True
