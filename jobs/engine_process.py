"""The worker's hold on its engine process: starts it, talks to it, restarts it. Knows no Celery.

    spawn -> load -> Ready -> serve -> lost (died, hung, or spoke garbage) -> back-off -> spawn ...

One thread lives through all of that. It must outlive every engine process it starts, because the
kernel kills a process with the thread that asked for it (see `parent_death`).
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import msgspec

from .frame_link import FrameLink
from .frames import Configuration, Progress, Ready, ToEngine, ToWorker, Unusable
from .settings import Settings

LOAD_LIMIT_S = 1800.0
HANG_LIMIT_S = 20.0
FIRST_STEPS_LIMIT_S = 120.0  # compiling kernels may take a while
_NUM_FIRST_STEPS = 20
SHORTEST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 60.0  # an engine that served for so long starts with the shortest pause again

logger = logging.getLogger(__name__)


class EngineProcess:
    """One engine process at a time, for as long as the worker lives.

    The callbacks run on this object's thread, in the order in which things happened. `on_lost` is
    called after the process is gone and before another one is started.

    Attributes:
        ready: what the engine said when it was loaded; None while there is none that serves.
        progress: its latest report.
    """

    def __init__(
        self,
        settings: Settings,
        model: str,
        worker: str,
        *,
        on_frame: Callable[[ToWorker], None],
        on_lost: Callable[[str], None],
        on_unusable: Callable[[str], None],
        hang_limit_s: float = HANG_LIMIT_S,
    ) -> None:
        self.ready: Ready | None = None
        self.progress: Progress | None = None
        self._configuration = Configuration(settings, model, worker)
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._on_unusable = on_unusable
        self._hang_limit_s = hang_limit_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: FrameLink | None = None
        self._moved_at_s = 0.0
        self._ready_at_s = 0.0
        self._verdict = ""
        self._thread = threading.Thread(target=self._run, name="engine-process", daemon=True)

    def start(self) -> None:
        """Start the first process; `ready` tells when it serves."""
        self._thread.start()

    def stop(self) -> None:
        """End the process at once; what it had in hand is lost. `on_lost` is not called."""
        with self._lock:
            self._stopping.set()
            if self._link is not None:
                self._link.close()
            if self._process is not None:
                self._process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def send(self, frame: ToEngine) -> bool:
        """Send a frame to the engine; False when there is none that serves."""
        link = self._link if self.ready is not None else None
        if link is None:
            return False
        link.send(frame)
        return True

    @property
    def pid(self) -> int | None:
        """The current process, if any."""
        return self._process.pid if self._process else None

    def _run(self) -> None:
        pause_s = SHORTEST_PAUSE_S
        while not self._stopping.is_set():
            reason = self._serve_once()
            if self._stopping.is_set():
                return
            if self._ready_at_s and time.monotonic() - self._ready_at_s > _HEALTHY_S:
                pause_s = SHORTEST_PAUSE_S
            logger.error("the engine is lost (%s); a new one starts in %.1f s", reason, pause_s)
            self._on_lost(reason)
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _serve_once(self) -> str:
        """Start a process and serve it to its end; return why it ended."""
        ours, theirs = socket.socketpair()
        link = FrameLink(ours, ToWorker)
        self._verdict = ""
        self._ready_at_s = 0.0
        with self._lock:
            if self._stopping.is_set():
                ours.close()
                theirs.close()
                return "stopped"
            process = self._process = self._spawn(theirs)
            self._link = link
        self._moved_at_s = time.monotonic()
        try:
            reason = link.run(self._take, on_tick=self._watch)
        finally:
            self.ready = None
            self.progress = None
            process.kill()
            status = process.wait()
            self._link = None
        if self._verdict:
            return self._verdict
        return f"signal {-status}" if status < 0 and status != -9 else f"{reason}, status {status}"

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "penstock.jobs.engine_child"]
        with theirs:
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C is for the worker, which lets rows finish first
            )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(msgspec.json.encode(self._configuration))
        return process

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case Ready():
                self.ready = frame
                self._ready_at_s = self._moved_at_s = time.monotonic()
                logger.info("the engine serves %s (process %d)", self._model, frame.pid)
            case Progress():
                self._note_progress(frame)
            case Unusable():
                self._stopping.set()
                self._verdict = frame.message
                self._on_unusable(frame.message)
                if self._link is not None:
                    self._link.close()
                return
        self._on_frame(frame)

    def _note_progress(self, progress: Progress) -> None:
        last = self.progress
        has_moved = last is None or progress.steps != last.steps
        if has_moved or progress.running_rows + progress.waiting_rows == 0:
            self._moved_at_s = time.monotonic()
        self.progress = progress

    def _watch(self) -> None:
        """End a process that stands still: the engine's own thread reports, so it cannot lie."""
        if self.ready is None:
            limit_s = LOAD_LIMIT_S
        elif self.progress is None or self.progress.steps < _NUM_FIRST_STEPS:
            limit_s = max(FIRST_STEPS_LIMIT_S, self._hang_limit_s)
        else:
            limit_s = self._hang_limit_s
        if time.monotonic() - self._moved_at_s > limit_s and self._link is not None:
            self._verdict = f"no progress for {limit_s:.0f} s"
            self._link.close()

    @property
    def _model(self) -> str:
        return self._configuration.model
