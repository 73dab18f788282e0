"""The keeper's chores that wait for disks and object stores, each kind in threads of its own.

A store that does not answer, or a disk that hangs, holds up what needs it and nothing else:

    completer   completes jobs whose rows stay on the disk
    publisher   completes jobs whose rows are copied to an object store, a few side by side
    measurer    looks how much tenants store who may store only so much
    looker      tries whether there is room again where jobs wait for it
    sweeper     removes what killed processes left, and old trials of workflows

Knows what is to be done for each job; when it is time to, the keeper knows.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from .events import STATUS, JobEvents
from .job_table import JobTable
from .model import JobState
from .room import unblock
from .settings import Settings
from .sweep import sweep
from .tasks import complete
from .workflow.runs.run_removal import remove_old_trials

_MAX_PUBLISHERS = 4

logger = logging.getLogger(__name__)


class SlowChores:
    """Does chores beside the keeper's thread; none of its methods waits for one, or raises.

    `executor` can be handed in to do all of them.
    """

    def __init__(
        self,
        settings: Settings,
        table: JobTable,
        events: JobEvents,
        executor: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._table = table
        self._events = events
        self._completer = executor or ThreadPoolExecutor(1, "completer")
        self._publisher = executor or ThreadPoolExecutor(_MAX_PUBLISHERS, "publisher")
        self._looker = executor or ThreadPoolExecutor(1, "looker")
        self._measurer = executor or ThreadPoolExecutor(1, "measurer")
        self._sweeper = executor or ThreadPoolExecutor(1, "sweeper")
        self._completing: dict[str, Future[None]] = {}
        self._looking = _done()
        self._measuring = _done()
        self._sweeping = _done()

    def close(self) -> None:
        """Begin nothing more; what is under way may be repeated by others."""
        kinds = (self._completer, self._publisher, self._looker, self._measurer, self._sweeper)
        for executor in kinds:
            executor.shutdown(wait=False, cancel_futures=True)

    @property
    def is_looking_for_room(self) -> bool:
        """Whether the last look for room is not over."""
        return not self._looking.done()

    def complete(self, job_ids: Iterable[str]) -> None:
        """Complete jobs whose shards have all landed, unless that is under way."""
        self._completing = {job: each for job, each in self._completing.items() if not each.done()}
        wanted = [job_id for job_id in job_ids if job_id not in self._completing]
        for job_id, job in zip(wanted, self._table.snapshots(wanted), strict=True):
            executor = self._publisher if job and "://" in job.out else self._completer
            self._completing[job_id] = executor.submit(self._complete, job_id)

    def look_for_room(self, job_ids: Sequence[str]) -> None:
        """Let jobs go on that have room again."""
        self._looking = self._looker.submit(self._look_for_room, job_ids)

    def measure(self, measure: Callable[[], None]) -> None:
        """Look how much tenants store, unless that is under way."""
        if self._measuring.done():
            self._measuring = self._measurer.submit(_measure, measure)

    def sweep(self) -> None:
        """Remove what killed processes left and old trials, unless that is under way."""
        if self._sweeping.done():
            self._sweeping = self._sweeper.submit(self._sweep)

    def _complete(self, job_id: str) -> None:
        try:
            complete(self._settings, self._table, job_id)
        except Exception as error:  # no room for the manifest, say: it is tried again
            logger.warning("%s cannot be completed yet: %s", job_id, error)

    def _look_for_room(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            try:
                if unblock(self._settings, self._table, job_id):
                    logger.info("there is room for the rows of %s again", job_id)
                    self._events.publish(job_id, STATUS, {"status": JobState.RUNNING})
            except Exception as error:  # a disk in trouble must not keep the others' jobs waiting
                logger.warning("%s waits for room: %s", job_id, error)

    def _sweep(self) -> None:
        try:
            num_swept = sweep(self._settings)
        except OSError as error:
            logger.warning("what killed processes left behind cannot be swept: %s", error)
        else:
            if num_swept:
                logger.info("swept what killed processes left of %d jobs", num_swept)
        try:
            num_removed = remove_old_trials(self._settings, self._table)
        except Exception as error:  # the disk's or Redis' trouble; they go another time
            logger.warning("old trials of workflows cannot be removed: %s", error)
        else:
            if num_removed:
                logger.info("removed %d old trials of workflows", num_removed)


def _measure(measure: Callable[[], None]) -> None:
    try:
        measure()
    except Exception as error:  # the disk's or Redis' trouble; what was measured last stands
        logger.warning("what tenants store cannot be measured yet: %s", error)


def _done() -> "Future[None]":
    future: Future[None] = Future()
    future.set_result(None)
    return future
