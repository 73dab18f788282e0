"""One process at work, which people's templates may exhaust, and this end of the talk with it.

It is bounded in memory. Whatever it prints goes to stderr: the two pipes are for messages alone.
Knows no piece's meaning; `workbench` does the work.

    stdin   a piece of work        stdout   its outcome        msgpack behind a length (4 bytes)
"""

import logging
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

import msgspec

from ...child_bounds import die_first
from ...child_environment import without_secrets
from ...parent_death import die_with_parent
from ..work import Outcome, Work
from .last_words import LastWords

_OUT_OF_MEMORY = 77  # exit status of a process that has used up its bound
_LENGTH = struct.Struct(">I")

logger = logging.getLogger(__name__)


class Cause(Enum):
    """Why a process ended over a piece."""

    STOPPED = "stopped"  # the piece is not wanted any more
    TIMED_OUT = "timed out"
    DIED = "died"  # of itself, or somebody has killed it


@dataclass(frozen=True, slots=True)
class Loss:
    """What came of a piece whose process has ended."""

    cause: Cause
    message: str


class Bench:
    """A process and its successors. It starts when it is first needed.

    One thread at a time calls `do`, always the same: the process dies with it. `stop` and `close`
    may be called by any.
    """

    def __init__(self, data_dir: Path, operations: Sequence[str], max_memory_bytes: int) -> None:
        limits = [str(os.getpid()), str(max_memory_bytes)]
        self._command = [sys.executable, "-P", "-m", __name__, *limits, str(data_dir), *operations]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._words: LastWords | None = None
        self._work: Work | None = None  # what is under way
        self._cause: Cause | None = None  # why we ended it
        self._is_closed = False

    def do(self, work: Work, limit_s: float) -> Outcome | Loss:
        """Have a piece done."""
        process = self._begin(work)
        if process is None:
            return Loss(Cause.STOPPED, "was not begun any more")
        timer = threading.Timer(limit_s, self._end, (work, Cause.TIMED_OUT))
        timer.daemon = True
        timer.start()
        try:
            outcome = _ask(process, work)
        finally:
            timer.cancel()
        with self._lock:
            self._work = None
            cause = self._cause
        if outcome is not None and cause is None:
            return outcome
        words = self._words
        status = _reap(process)
        if outcome is not None:
            return outcome
        return _loss(cause, status, limit_s, words.read() if words is not None else "")

    def stop(self, run_id: str) -> None:
        """End the piece that is under way if it is of this run."""
        work = self._work
        if work is not None and work.run_id == run_id:
            self._end(work, Cause.STOPPED)

    def close(self) -> None:
        """Stop for good, whatever is under way."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._cause = Cause.STOPPED
                self._process.kill()
                if self._work is None:  # else its thread does it
                    _reap(self._process)

    def _begin(self, work: Work) -> subprocess.Popen[bytes] | None:
        """Return the process, a new one if it has died; None if none is wanted any more."""
        with self._lock:
            if self._is_closed:
                return None
            if self._process is None or self._process.poll() is not None:
                pipe, environ = subprocess.PIPE, without_secrets(os.environ)
                self._process = subprocess.Popen(
                    self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=environ
                )
                assert self._process.stderr is not None
                self._words = LastWords(self._process.stderr)
            self._work, self._cause = work, None
            return self._process

    def _end(self, work: Work, cause: Cause) -> None:
        with self._lock:
            if self._work is work and self._process is not None:  # and not another one by now
                self._cause = cause
                self._process.kill()


def _ask(process: subprocess.Popen[bytes], work: Work) -> Outcome | None:
    """Send a piece and read its outcome; None if the process has died over it."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _write(process.stdin, work)
        return _read(process.stdout, Outcome)
    except (OSError, ValueError, msgspec.MsgspecError) as error:  # broken off, or no message
        logger.debug("a piece of work was lost: %s", error)
        return None


def _reap(process: subprocess.Popen[bytes]) -> int:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError, ValueError):  # what could not be written any more
                stream.close()
    return process.wait()


def _loss(cause: Cause | None, status: int, limit_s: float, last_words: str) -> Loss:
    match cause:
        case Cause.STOPPED:
            return Loss(cause, "was stopped")
        case Cause.TIMED_OUT:
            return Loss(cause, f"took more than {limit_s:g} s")
    if status == _OUT_OF_MEMORY:
        return Loss(Cause.DIED, "took more memory than a process may have")
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    said = f", which said at last: {last_words}" if last_words else ""
    return Loss(Cause.DIED, f"lost the process that computed it ({how}){said}")


def _write(stream: IO[bytes], message: Any) -> None:
    body = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def _read(stream: IO[bytes], kind: Any) -> Any:
    """Read a message; None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    body = stream.read(size)
    return msgspec.msgpack.decode(body, type=kind) if len(body) == size else None


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Take stdin and stdout away from everybody else: operations may read, and print."""
    pieces, outcomes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return pieces, outcomes


def _serve(data_dir: Path, operations: Sequence[str]) -> None:
    """Do pieces until nobody wants any more."""
    # Here alone: the other end need not load all of it.
    from ..token_counting import token_ends
    from ..tools import Tools, usable_operations
    from .workbench import Workbench

    pieces, outcomes = _own_pipes()
    workbench = Workbench(data_dir, Tools(token_ends, usable_operations(operations)))
    try:
        while (work := _read(pieces, Work)) is not None:
            _write(outcomes, workbench.do(work))
    except MemoryError:  # the next piece shall have a whole process again
        os._exit(_OUT_OF_MEMORY)


if __name__ == "__main__":
    parent, max_memory, data, *ops = sys.argv[1:]
    die_with_parent(int(parent), signal.SIGKILL)
    for stop_signal in (signal.SIGINT, signal.SIGTERM):  # meant for who started us: it closes stdin
        signal.signal(stop_signal, signal.SIG_IGN)
    die_first()
    resource.setrlimit(resource.RLIMIT_AS, (int(max_memory), int(max_memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve(Path(data), ops)
