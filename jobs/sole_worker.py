"""A thread that looks after a directory, in one process of all that share it. Knows no work.

Whoever holds the directory's lock works; the others stand by, and one of them goes on when the
holder has stopped or died.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from .durable import make_directories
from .file_lock import file_lock

_TICK_S = 0.5
_FAULT_PAUSE_S = 5.0

logger = logging.getLogger(__name__)


class SoleWorker:
    """Does `tick` again and again while `lock` is ours; what it raises is logged, and it waits.

    It is as quick as that: a tick begins work, and other threads do it.
    """

    def __init__(
        self,
        lock: Path,
        tick: Callable[[], object],
        *,
        tick_s: float = _TICK_S,
        fault_pause_s: float = _FAULT_PAUSE_S,
    ) -> None:
        self._lock = lock
        self._tick = tick
        self._tick_s = tick_s
        self._fault_pause_s = fault_pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=lock.stem, daemon=True)

    @property
    def is_stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Stand by from now on, and work when it is our turn."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more, and leave the directory to the next one."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._tick_s):
            try:
                make_directories(self._lock.parent)
                with file_lock(self._lock) as held:
                    while held is not None and not self._stopping.wait(self._tick_s):
                        self._tick()
            except Exception:  # the disk's, say; it may do better soon
                logger.exception("%s: nobody works here for a while", self._lock)
                self._stopping.wait(self._fault_pause_s)
