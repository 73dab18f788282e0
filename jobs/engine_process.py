"""The worker's hold on its engine process: starts it, talks to it, restarts it. Knows no Celery.

    spawn -> load -> Ready -> serve -> lost (died, hung, or spoke garbage) -> back-off -> spawn ...

One thread lives through all of that. It must outlive every engine process it starts, because the
kernel kills a process with the thread that asked for it (see `parent_death`).
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .crash_report import SHOW_STACKS, CrashReports, place_of, wait_for_stacks
from .frame_link import FrameLink
from .frames import (
    VERSION,
    Configuration,
    ModelTrouble,
    Progress,
    Ready,
    ShardLanded,
    ToEngine,
    ToWorker,
    Unusable,
)
from .settings import Settings

LOAD_LIMIT_S = 1800.0
FIRST_STEPS_LIMIT_S = 600.0  # compiling kernels may take a while
_NUM_FIRST_STEPS = 20
_BLINK_S = 2.0  # between two looks at the engine, as long as this process is not stopped
_HANG_FACTOR = 20  # a step may take so many times as long as 99 of 100 steps before it
SHORTEST_PAUSE_S = 0.2  # after an engine that made something
FIRST_PAUSE_S = 1.0  # after one that made nothing
LONGEST_PAUSE_S = 30.0
_PATIENT_LOSSES = 6  # so many crashes find a row that kills; only then do pauses double
_CANARY_TOKENS = 1  # what every engine makes to prove itself

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loss:
    """How an engine process was lost: it died, or we ended it because it stood still.

    Attributes:
        process: its number.
        place: where its code was, if that is known.
        report: the file with its stacks, if there is one.
    """

    reason: str
    process: int = 0
    has_hung: bool = False
    place: str | None = None
    report: Path | None = None

    def __str__(self) -> str:
        """Say it in a few words, the same for losses of the same kind."""
        return f"{self.reason} at {self.place}" if self.place else self.reason


class EngineProcess:
    """One engine process at a time, for as long as the worker lives.

    The callbacks run on this object's thread, in the order in which things happened. `on_lost` is
    called after the process is gone and before another one is started.

    Attributes:
        ready: what the engine said when it was loaded; None while there is none that serves.
        progress: its latest report.
        trouble: why no engine serves, where that will last until somebody mends it.
        num_losses: how many engines died, or were ended because they stood still.
    """

    def __init__(
        self,
        settings: Settings,
        model: str,
        worker: str,
        *,
        on_frame: Callable[[ToWorker], None],
        on_lost: Callable[[Loss], None],
        on_unusable: Callable[[Unusable], None],
    ) -> None:
        self.ready: Ready | None = None
        self.progress: Progress | None = None
        self.trouble: str | None = None
        self.num_losses = 0
        self._configuration = Configuration(settings, model, worker, version=VERSION)
        self._reports = CrashReports(settings.data_dir / "crashes", worker)
        self._report: Path | None = None
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._on_unusable = on_unusable
        self._hang_limit_s = settings.hang_limit_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: FrameLink | None = None
        self._moved_at_s = self._watched_at_s = 0.0
        self._was_ready = False
        self._has_made_something = False
        self._num_vain_losses = 0
        self._verdict = ""
        self._has_hung = False
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
    def is_attended(self) -> bool:
        """Whether the thread lives that replaces an engine when it is lost."""
        return self._thread.is_alive()

    @property
    def pid(self) -> int | None:
        """The current process, if any."""
        return self._process.pid if self._process else None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                reason = self._serve_once()
            except Exception as error:  # no process to be had, or none that reads; this may pass
                logger.exception("the engine cannot be started")
                reason = f"{type(error).__name__}: {error}"
            loss = self._loss(reason)
            if self._stopping.is_set():
                return
            self.num_losses += 1
            if not self._was_ready and self.trouble is None:  # a lost device, say
                self.trouble = f"engine_cannot_start: {loss}"
            pause_s = self._next_pause_s()
            logger.error("the engine is lost (%s); a new one starts in %.1f s", loss, pause_s)
            if loss.report is not None:
                logger.error("where it stood is in %s", loss.report)
            try:
                self._on_lost(loss)
            except Exception:  # whoever was told late will see that there is a new engine
                logger.exception("the loss of the engine could not be told")
            self._stopping.wait(pause_s)

    def _loss(self, reason: str) -> Loss:
        report = self._reports.take(self._report)
        return Loss(reason, self.pid or 0, self._has_hung, place_of(report), report)

    def _next_pause_s(self) -> float:
        if self._has_made_something:
            self._num_vain_losses = 0
            return SHORTEST_PAUSE_S
        self._num_vain_losses += 1
        patience = _PATIENT_LOSSES if self._was_ready else 1
        num_doublings = min(max(self._num_vain_losses - patience, 0), 10)
        return min(FIRST_PAUSE_S * 2**num_doublings, LONGEST_PAUSE_S)

    def _serve_once(self) -> str:
        """Start a process and serve it to its end; return why it ended."""
        self._verdict, self._has_hung = "", False
        self._was_ready = self._has_made_something = False
        ours, theirs = socket.socketpair()
        with ours, theirs:  # the link takes ours over; closing it once more does no harm
            with self._lock:
                if self._stopping.is_set():
                    return "stopped"
                process = self._process = self._spawn(theirs)
            theirs.close()
            self._moved_at_s = self._watched_at_s = time.monotonic()
            try:
                self._configure(process)
                link = self._link = FrameLink(ours, ToWorker)
                reason = link.run(self._take, on_tick=self._watch)
            finally:
                self.ready = None
                self.progress = None
                process.kill()
                status = process.wait()
                self._link = None
                if process.stdin is not None:
                    with contextlib.suppress(OSError):  # it never read what was meant for it
                        process.stdin.close()
        if self._verdict or reason.startswith("garbage"):
            return self._verdict or reason
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "penstock.jobs.engine_child"]
        return subprocess.Popen(
            [*command, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C is for the worker, which lets rows finish first
        )

    def _configure(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        self._report = self._reports.begin()
        report = str(self._report) if self._report else None
        configuration = msgspec.structs.replace(self._configuration, report=report)
        process.stdin.write(msgspec.json.encode(configuration))
        process.stdin.close()

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case Ready():
                self.ready, self.trouble = frame, None
                self._was_ready, self._moved_at_s = True, time.monotonic()
                logger.info("the engine serves %s (process %d)", self._model, frame.pid)
            case Progress():
                self._note_progress(frame)
            case ShardLanded():
                self._has_made_something = True
            case Unusable():
                self._note_unusable(frame)
                return
        self._on_frame(frame)

    def _note_unusable(self, unusable: Unusable) -> None:
        self._verdict = unusable.message
        if unusable.trouble is ModelTrouble.CORRUPT:
            self.trouble = f"{unusable.trouble}: {unusable.message}"
        else:
            self._stopping.set()
            self._on_unusable(unusable)
        if self._link is not None:
            self._link.close()

    def _note_progress(self, progress: Progress) -> None:
        last = self.progress
        has_moved = last is None or progress.steps != last.steps
        if has_moved or progress.running_rows + progress.waiting_rows == 0:
            self._moved_at_s = time.monotonic()
        self._has_made_something |= progress.tokens > _CANARY_TOKENS
        self.progress = progress

    def _watch(self) -> None:
        """End a process that stands still: the engine's own thread reports, so it cannot lie."""
        limit_s, now_s = self._limit_s(), time.monotonic()
        unseen_s = now_s - self._watched_at_s
        self._watched_at_s = now_s
        if unseen_s > _BLINK_S:  # we stood still ourselves: what the engine said is still unread
            self._moved_at_s += unseen_s
        if now_s - self._moved_at_s > limit_s and self._link is not None:
            self._verdict = f"no progress for {limit_s:g} s"
            self._has_hung = self.ready is not None
            self._ask_for_stacks()
            self._link.close()

    def _ask_for_stacks(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):  # it has died meanwhile
                self._process.send_signal(SHOW_STACKS)
                wait_for_stacks(self._report)

    def _limit_s(self) -> float:
        """Say how long the engine may stand still: by what it has shown to need."""
        if self.ready is None:
            return LOAD_LIMIT_S
        if self.progress is None or self.progress.steps < _NUM_FIRST_STEPS:
            return max(FIRST_STEPS_LIMIT_S, self._hang_limit_s)
        slow_s = _HANG_FACTOR * self.progress.slow_step_s
        return max(self._hang_limit_s, min(slow_s, LOAD_LIMIT_S))

    @property
    def _model(self) -> str:
        return self._configuration.model
