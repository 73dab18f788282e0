"""Hands pieces of work to processes that people's templates may exhaust, and outlives those.

Each process is bounded in memory, and each piece in time: one that dies, or takes too long, is
replaced, and its piece is told to be broken. Knows no piece's meaning; `workbench` does the work.

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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ..parent_death import die_with_parent
from .work import Broken, Gather, Outcome, Work

MAX_MEMORY_BYTES = 4 << 30
SHARD_S = 300.0  # far beyond what a shard may cost by the budgets of its rows
GATHER_S = 6 * 3600.0  # all rows of a run

_LENGTH = struct.Struct(">I")

logger = logging.getLogger(__name__)


class Workshop:
    """So many processes at work. They start when they are first needed."""

    def __init__(
        self,
        data_dir: Path,
        num_benches: int = 1,
        *,
        operations: Sequence[str] = (),
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self.num_benches = num_benches
        limits = [str(os.getpid()), str(max_memory_bytes)]
        self._command = [sys.executable, "-P", "-m", __name__, *limits, str(data_dir), *operations]
        self._threads = ThreadPoolExecutor(num_benches, "workflow")
        self._own = threading.local()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def submit(self, work: Work) -> "Future[Outcome]":
        """Have a piece done when it is its turn."""
        return self._threads.submit(self._do, work)

    def close(self) -> None:
        """Stop, whatever is under way: it may be done again."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._processes):
            _end(process)

    def _do(self, work: Work) -> Outcome:
        process = self._running()
        limit_s = GATHER_S if isinstance(work, Gather) else SHARD_S
        timer = threading.Timer(limit_s, process.kill)
        timer.daemon = True
        timer.start()
        try:
            outcome = _ask(process, work)
        finally:
            timer.cancel()
        if outcome is not None:
            return outcome
        status = process.wait()
        self._processes.discard(process)
        _end(process)
        is_ours = self._is_closed or status == 0
        why = f"the process that computes it ended (status {status})"
        return Broken(f"{why}: it takes too much memory or time", is_lasting=not is_ours)

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the process of this thread, a new one if it has died."""
        process: subprocess.Popen[bytes] | None = getattr(self._own, "process", None)
        if process is None or process.poll() is not None:
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._own.process = process
            self._processes.add(process)
        return process


def _ask(process: subprocess.Popen[bytes], work: Work) -> Outcome | None:
    """Send a piece and read its outcome; None if the process has died over it."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _write(process.stdin, work)
        return _read(process.stdout, Outcome)
    except (OSError, ValueError) as error:  # its end is broken off, or closed by `close`
        logger.debug("a piece of work was lost: %s", error)
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError, ValueError):  # what could not be written any more
                stream.close()
    process.wait()


def _write(stream: BinaryIO | Any, message: Any) -> None:
    body = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def _read(stream: BinaryIO | Any, kind: Any) -> Any:
    """Read a message; None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    body = stream.read(size)
    return msgspec.msgpack.decode(body, type=kind) if len(body) == size else None


def _serve(data_dir: Path, operations: Sequence[str]) -> None:
    """Do pieces until nobody wants any more."""
    # Here alone: the other end need not load all of it.
    from .token_counting import token_ends
    from .tools import Tools, read_operations
    from .workbench import Workbench

    bench = Workbench(data_dir, Tools(token_ends, read_operations(operations)))
    while (work := _read(sys.stdin.buffer, Work)) is not None:
        _write(sys.stdout.buffer, bench.do(work))


if __name__ == "__main__":
    parent, max_memory, data, *ops = sys.argv[1:]
    die_with_parent(int(parent), signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us is asked, and closes stdin
    resource.setrlimit(resource.RLIMIT_AS, (int(max_memory), int(max_memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve(Path(data), ops)
