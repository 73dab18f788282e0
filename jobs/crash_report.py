"""What an engine process was doing when it died or stood still: one text file for each.

Knows stacks, no engine. The worker names the file; the engine process has every fatal signal, and
the worker's request to show where it stands, write all threads' stacks into it, without Python's
help: that works in the middle of a kernel too.

    $data/crashes/TIME-WORKER-NUMBER.txt     the newest `_MOST_REPORTS` are kept
    $data/crashes/.TIME-WORKER-NUMBER.txt    of a process that lives, which holds its lock

Only a report that says something ever gets its name, also when a worker dies with its engine: then
the next worker that starts one here sees to it.
"""

import faulthandler
import fcntl
import logging
import os
import re
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TextIO

SHOW_STACKS = signal.SIGUSR1
_MOST_REPORTS = 20
_LARGEST_REPORT = 256 * 1024
_STACKS_WAIT_S = 2.0  # a process that was stopped never answers
_STACKS_STILL_S = 0.5  # without another byte for so long, all stacks are there
_UNLOCKED_S = 600.0  # a process that was just started has not locked its report yet
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+),? in (\S+)')

logger = logging.getLogger(__name__)


class CrashReports:
    """The reports of one worker's engine processes. `begin` and `take` pair."""

    def __init__(self, directory: Path, worker: str) -> None:
        self._directory = directory
        self._worker = worker
        self._number = 0

    def begin(self) -> Path | None:
        """Name the report of a process that is about to start; None if none can be written."""
        self._number += 1
        started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = self._directory / f".{started}-{self._worker}-{self._number:06}.txt"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for abandoned in self._directory.glob(".*.txt"):
                if _is_abandoned(abandoned):
                    self.take(abandoned)
            path.touch()
        except OSError as error:
            logger.warning("crashes cannot be reported: %s", error)
            return None
        return path

    def take(self, path: Path | None) -> Path | None:
        """Return the report of a process that has ended; None if there was nothing to say."""
        if path is None:
            return None
        with suppress(OSError):  # whatever happens to a report must not keep engines from serving
            if path.stat().st_size > _LARGEST_REPORT:
                os.truncate(path, _LARGEST_REPORT)
            if path.stat().st_size > 0:
                named = path.rename(path.with_name(path.name.removeprefix(".")))
                self._forget_old()
                return named
            path.unlink()
        return None

    def _forget_old(self) -> None:
        for path in sorted(self._directory.glob("[!.]*.txt"))[:-_MOST_REPORTS]:
            path.unlink(missing_ok=True)


def report_crashes(path: Path) -> TextIO:
    """Have this process write its report; the file must stay open as long as it lives."""
    file = path.open("w", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for as long as this process lives
    faulthandler.enable(file, all_threads=True)
    faulthandler.register(SHOW_STACKS, file, all_threads=True)
    return file


def _is_abandoned(path: Path) -> bool:
    """Tell whether the process that was to write a report has died, and its worker with it."""
    with suppress(OSError), path.open("rb") as file:  # somebody else takes it just now, or locks it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - path.stat().st_mtime > _UNLOCKED_S
    return False


def report_exception(file: TextIO, error: BaseException) -> None:
    """Write the exception that ends this process into its report."""
    traceback.print_exception(error, file=file)
    file.flush()


def wait_for_stacks(path: Path | None) -> None:
    """Wait until a process that was asked for its stacks has written them, but not for long."""
    grew_at_s = time.monotonic()
    deadline_s = grew_at_s + _STACKS_WAIT_S
    last_size = 0
    while path is not None and time.monotonic() < deadline_s:
        time.sleep(0.1)
        with suppress(OSError):
            size = path.stat().st_size
            if size != last_size:
                last_size, grew_at_s = size, time.monotonic()
            elif size and time.monotonic() - grew_at_s >= _STACKS_STILL_S:
                return


def place_of(path: Path | None) -> str | None:
    """Say where a process was when it died, as `step_runner.py:110 in run`; None if unknown."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if text.rstrip().rpartition("\n")[2].startswith((" ", "\t")) or "Thread 0x" in text:
        _, _, text = text.rpartition("Current thread")  # innermost frame first
        frames = _FRAME.findall(text)[:1]
    else:  # Python's traceback: innermost frame last
        frames = _FRAME.findall(text)[-1:]
    return next((f"{Path(file).name}:{line} in {name}" for file, line, name in frames), None)
