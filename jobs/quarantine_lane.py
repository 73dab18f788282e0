"""One worker at a time tries suspects, so that a flood of them takes one engine down and no more.

Knows a lock file in the data directory and the reports of the engine process. The worker holds the
lock, not its engine process: it outlives every crash, and goes to the next worker when no suspects
are left here, or with the worker itself.
"""

import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

from .frames import Progress, ToEngine, TrySuspects

_PATIENCE_REPORTS = 8  # a new engine has not heard of its shards when it first reports

logger = logging.getLogger(__name__)


class QuarantineLane:
    """This worker's turn to try suspects. `enter` and `leave` pair, and happen by themselves."""

    def __init__(self, directory: Path, send: Callable[[ToEngine], bool]) -> None:
        self._path = directory / "quarantine.lock"
        self._send = send
        self._descriptor: int | None = None
        self._num_idle_reports = 0

    @property
    def is_ours(self) -> bool:
        """Whether suspects are tried here, and nowhere else."""
        return self._descriptor is not None

    def engine_ready(self) -> None:
        """Tell a new engine process what holds for it: it begins with trying none."""
        self._num_idle_reports = 0
        if self.is_ours:
            self._send(TrySuspects(is_on=True))

    def take(self, progress: Progress) -> None:
        """Enter or leave the lane, by what an engine process says of its shards."""
        has_suspects = any(shard.suspects for shard in progress.shards)
        self._num_idle_reports = 0 if has_suspects else self._num_idle_reports + 1
        if has_suspects and not self.is_ours and self.enter():
            self._send(TrySuspects(is_on=True))
        elif self.is_ours and self._num_idle_reports > _PATIENCE_REPORTS:
            self._send(TrySuspects(is_on=False))
            self.leave()

    def enter(self) -> bool:
        """Take the lock, unless another worker has it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:  # better tried at two places than nowhere
            logger.warning("suspects are tried without a lock: %s", error)
            return self._hold(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:  # a file system without locks
            logger.warning("suspects are tried without a lock: %s", error)
        return self._hold(descriptor)

    def leave(self) -> None:
        """Let another worker try suspects."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _hold(self, descriptor: int) -> bool:
        self._descriptor = descriptor
        return True
