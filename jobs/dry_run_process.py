"""A dry run in a process of its own: bounded in memory and time, gone when nobody asks.

Knows the process and what may become of it; what it does is `dry_run_child`'s. Each report holds
all that is known by then. So what ends the process, a row that takes all its memory say, never
takes back what is known of the rows before.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import msgspec

from ..engine.model_place import DEMO_MODEL
from . import dry_run_child
from .child_bounds import memory_bound
from .child_environment import bare_environment
from .dry_run_child import OUT_OF_MEMORY, DryRunOrder, DryRunTold, Place
from .dry_run_report import DryRunReport
from .fake_engine import PREFIX
from .home_path import NoSuchHome, expanded
from .inputs import UnreadableInput
from .object_store import is_store_url
from .settings import Settings
from .sources import FileSource, NamedFileSource, PathSource, RowsSource, Source
from .submit_request import SubmitRequest, check_context, check_request

_GRACE_S = 10.0  # beyond the limit, for the row under way


class DryRunFailed(RuntimeError):
    """There is no report, through no fault of the input's; the message says why."""


class DryRunProcess:
    """One dry run. `run` blocks, and needs a thread that lives as long; any may call `stop`.

    Raises:
        InvalidJob, InvalidSampling: the request cannot become a job, whatever the input.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        request: SubmitRequest,
        *,
        limit_s: float | None = None,
    ) -> None:
        check_request(request)
        check_context(request)
        self._source = source
        self._limit_s = limit_s
        self._max_memory_bytes = memory_bound()
        self._order = DryRunOrder(
            request=request,
            place=Place(),
            s3_endpoint=settings.s3_endpoint,
            max_model_len=settings.max_model_len,
            tool_format=settings.tool_format,
            limit_s=limit_s,
        )
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = self._is_overdue = False

    def run(self, on_report: Callable[[DryRunReport], None] = lambda report: None) -> DryRunReport:
        """Look at the whole input, telling on the way how far it is; return the last report.

        Raises:
            UnreadableInput: the input as a whole cannot be read.
            DryRunFailed: it was stopped, or the process has ended before the first row.
        """
        process = self._start()
        timer = None
        if self._limit_s is not None:
            timer = threading.Timer(self._limit_s + _GRACE_S, self._end_late)
            timer.daemon = True
            timer.start()
        try:
            last = _last_report(process, on_report)
        finally:
            if timer is not None:
                timer.cancel()
            status = _reap(process)
        if last is not None and (last.complete or last.stopped is not None):
            return last
        cause = self._cause(status)
        if last is None or self._is_stopped:
            raise DryRunFailed(f"the dry run {cause}")
        return replace(last, stopped=f"the dry run {cause}, soon behind these rows")

    def stop(self) -> None:
        """End it, whatever it is at."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        limits = [str(os.getpid()), str(self._max_memory_bytes)]
        command = [sys.executable, "-P", "-m", dry_run_child.__name__, *limits]
        with _place_of(self._source) as place, self._lock:
            if self._is_stopped:
                raise DryRunFailed("the dry run was stopped")
            order = msgspec.structs.replace(self._order, place=place)
            inherited = [] if place.descriptor is None else [place.descriptor]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=inherited,
                env=_environment(order),
            )
        assert self._process.stdin is not None
        with suppress(OSError):  # it has died already, and its status says of what
            self._process.stdin.write(msgspec.json.encode(order))
            self._process.stdin.close()
        return self._process

    def _end_late(self) -> None:
        self._is_overdue = True
        if self._process is not None:
            self._process.kill()

    def _cause(self, status: int) -> str:
        if self._is_stopped:
            return "was stopped"
        if self._is_overdue:
            return f"had not ended {_GRACE_S:g} s after the {self._limit_s:g} s that it may take"
        if status == OUT_OF_MEMORY:
            return f"took more memory than {self._max_memory_bytes >> 20} MiB"
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"lost its process ({how})"


def _environment(order: DryRunOrder) -> dict[str, str]:
    """Return what the process may know: credentials only of what it is to read."""
    model = order.request.task.model
    is_here = model.startswith(PREFIX) or model == DEMO_MODEL or _is_there(model)
    reads_store = is_store_url(order.place.path)
    return bare_environment(os.environ, reads_hub=not is_here, reads_store=reads_store)


def _is_there(model: str) -> bool:
    """Tell whether a model's name is that of a file or directory of this machine."""
    try:
        return expanded(model).exists()
    except NoSuchHome:  # whoever loads the model tells of it
        return False


@contextmanager
def _place_of(source: Source) -> Iterator[Place]:
    """Say where another process finds the rows; it may begin as long as the block lasts."""
    match source:
        case PathSource(path):
            yield Place(path=str(path))
        case NamedFileSource(path, filename):
            yield Place(path=str(path), filename=filename)
        case FileSource(file, filename):
            yield Place(descriptor=file.fileno(), filename=filename)
        case RowsSource(rows):
            with tempfile.TemporaryFile() as file:
                file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
                file.flush()
                yield Place(descriptor=file.fileno(), filename="rows.jsonl")


def _last_report(
    process: subprocess.Popen[bytes], on_report: Callable[[DryRunReport], None]
) -> DryRunReport | None:
    """Read reports to the last; None if there was none.

    Raises:
        UnreadableInput: the process could not read it.
    """
    assert process.stdout is not None
    last = None
    for line in process.stdout:
        try:
            told = msgspec.json.decode(line, type=DryRunTold)
        except msgspec.DecodeError:  # it died while it said this
            break
        if told.unreadable is not None:
            raise UnreadableInput(told.unreadable)
        if told.report is not None:
            last = told.report
            on_report(last)
    return last


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that has closed its end, or end it."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
    process.kill()
    with suppress(OSError):  # what could not be written any more
        process.stdin.close()
    process.stdout.close()
    return process.wait()
