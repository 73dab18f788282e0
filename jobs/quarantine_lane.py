"""When suspects are tried that have killed before: at one worker at a time, and not too often.

Knows a lock file in the data directory and the reports of the engine process. The worker holds the
lock, not its engine process: it outlives every crash, and goes to the next worker when no such
suspects are left here, or with the worker itself. So a flood of them takes one engine down and no
more; and that one works `_WORK_PER_OUTAGE` times as long as its last outage took before it risks
the next, unless it has nothing else to do.

Whoever holds the lock touches its file with every report. One that was stopped neither does so nor
lets go; then the next one tries suspects without it.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from .frames import Progress, ToEngine, TrySuspects

_PATIENCE_REPORTS = 8  # a new engine has not heard of its shards when it first reports
_WORK_PER_OUTAGE = 4
_FORSAKEN_S = 60.0  # without an engine, a worker gives its shards up after ten, and the lane too

logger = logging.getLogger(__name__)


class QuarantineLane:
    """This worker's turn to try suspects. `enter` and `leave` pair, and happen by themselves."""

    def __init__(self, directory: Path, send: Callable[[ToEngine], bool]) -> None:
        self._path = directory / "quarantine.lock"
        self._send = send
        self._descriptor: int | None = None
        self._num_idle_reports = 0
        self._is_on = False
        self._lost_at_s: float | None = None
        self._due_at_s = 0.0
        self._touched = (0, 0.0)  # of another's lock: when by its own clock, and seen when by ours

    def engine_lost(self) -> None:
        """Note that the engine serves no more, since now unless that is known already."""
        self._lost_at_s = self._lost_at_s or time.monotonic()

    def engine_ready(self) -> None:
        """Note that a new engine serves, which begins with trying no suspects."""
        now_s = time.monotonic()
        outage_s = now_s - self._lost_at_s if self._lost_at_s else 0.0
        self._due_at_s = now_s + _WORK_PER_OUTAGE * outage_s
        self._lost_at_s = None
        self._num_idle_reports = 0
        self._is_on = False

    def take(self, progress: Progress) -> None:
        """Let suspects be tried or not, by what an engine process says of its shards."""
        self._touch()
        has_suspects = any(shard.suspects for shard in progress.shards)
        self._num_idle_reports = 0 if has_suspects else self._num_idle_reports + 1
        if has_suspects and self._is_due(progress) and self.enter():
            self._tell(is_on=True)
        elif self._num_idle_reports > _PATIENCE_REPORTS:
            self._tell(is_on=False)
            self.leave()

    def enter(self) -> bool:
        """Take the lock, unless another worker has it; return whether it is ours."""
        if self._descriptor is not None:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:  # better tried at two places than nowhere
            logger.warning("suspects are tried without a lock: %s", error)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self._is_forsaken(descriptor):
                os.close(descriptor)
                return False
            logger.warning("suspects are tried without a lock: its holder has not stirred lately")
        except OSError as error:  # a file system without locks
            logger.warning("suspects are tried without a lock: %s", error)
        self._descriptor = descriptor
        return True

    def leave(self) -> None:
        """Let another worker try suspects."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _touch(self) -> None:
        if self._descriptor is not None:
            try:
                os.utime(self._descriptor)
            except OSError as error:  # then others may try theirs beside ours
                logger.debug("the lock for suspects cannot be touched: %s", error)

    def _is_forsaken(self, descriptor: int) -> bool:
        """Tell whether the holder of the lock has not touched it for too long, by our own clock."""
        try:
            touched_ns, now_s = os.fstat(descriptor).st_mtime_ns, time.monotonic()
        except OSError:  # the file's server forgot it; whoever opens it again sees
            return False
        if touched_ns != self._touched[0]:
            self._touched = (touched_ns, now_s)
        return now_s - self._touched[1] > _FORSAKEN_S

    def _is_due(self, progress: Progress) -> bool:
        is_idle = not (progress.running_rows or progress.waiting_rows or progress.unread_shards)
        return is_idle or time.monotonic() >= self._due_at_s

    def _tell(self, *, is_on: bool) -> None:
        if is_on is not self._is_on:
            self._is_on = is_on
            self._send(TrySuspects(is_on))
