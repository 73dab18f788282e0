"""One process of the local stack: started, watched, restarted, stopped. Knows not what it runs."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..jobs.parent_death import launch_command

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 30.0  # a process that lived this long starts with a clean record again

_ENTRY = re.compile(r"\d\d:\d\d:\d\d\.\d{3} [A-Z] \w+ ")  # as `jobs.logs` begins one


class Child:
    """A child process in its own session, which dies with us and writes to its own log.

        start -> alive -> exited -> (pause) -> alive -> ... -> stopped

    The kernel ties a child to the *thread* that starts it: call everything here from one thread
    that lives as long as the children shall.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log_path: Path,
        pass_fds: Sequence[int] = (),
        grace_s: float = 5.0,
        hopeless_status: int | None = None,
    ) -> None:
        self.name = name
        self._hopeless_status = hopeless_status
        self._num_starts = 0
        self.log_path = log_path
        self.num_failures = 0  # in a row
        self._command = launch_command(command, signal.SIGTERM)
        self._environ = dict(environ)
        self._pass_fds = tuple(pass_fds)
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at_s = 0.0
        self._start_again_at_s: float | None = None

    @property
    def pid(self) -> int | None:
        """The process, if it was ever started."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_hopeless(self) -> bool:
        """Whether its first process ended saying that another would fare no better."""
        return (
            self._process is not None
            and self._num_starts == 1
            and self._hopeless_status is not None
            and self._process.poll() == self._hopeless_status
        )

    def start(self) -> None:
        """Start the process."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self._pass_fds,
                start_new_session=True,  # a Ctrl-C is for us, who stop the children in good order
            )
        self._num_starts += 1
        self._started_at_s = time.monotonic()
        self._start_again_at_s = None

    def look_after(self) -> str | None:
        """Start the process again if it has ended and its pause is over; tell what happened."""
        if self._process is None or self.is_alive or self.is_hopeless:
            return None
        now_s = time.monotonic()
        if self._start_again_at_s is None:
            lived_s = now_s - self._started_at_s
            self.num_failures = 1 if lived_s >= HEALTHY_AFTER_S else self.num_failures + 1
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.num_failures - 1))
            self._start_again_at_s = now_s + pause_s
            how = describe_exit(self._process.returncode)
            return f"{self.name} {how}; starting it again in {pause_s:g} s (log: {self.log_path})"
        if now_s >= self._start_again_at_s:
            self.start()
        return None

    def ask_to_stop(self) -> None:
        """Send SIGTERM, so that the process may finish what it holds."""
        if self._process is not None and self.is_alive:
            self._process.terminate()

    def stop(self) -> None:
        """See the process out: wait for its grace, then kill whatever is left of its session."""
        if self._process is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace_s)
        self.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Kill the process and all that it started, at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """Give the last entry of its log, without the time and the part that begin it."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - 8192))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        starts = [at for at, line in enumerate(lines) if _ENTRY.match(line)]
        entry = lines[starts[-1] :] if starts else lines[-1:]
        return _ENTRY.sub("", " ".join(entry), count=1)


def describe_exit(returncode: int) -> str:
    """Say how a process ended."""
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"exited with status {returncode}"
