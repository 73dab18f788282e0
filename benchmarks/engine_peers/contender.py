"""A peer's process seen from outside: started, asked, held to its time, ended.

Knows processes and pipes. What goes on inside is told by `serving.py`, at the pipe's other end.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Timer

from work import Work


class PeerFailed(RuntimeError):
    """The peer died, took too long, or answered with something else than was asked for."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One contender's answer to one piece of work.

    Attributes:
        first_tokens: of each row, to see whether two contenders compute the same model.
        wall_s, own_s, foreign_share: see `serving.Spent`.
    """

    tokens_per_s: float
    wall_s: float
    own_s: float
    foreign_share: float
    first_tokens: tuple[int, ...]


class Contender:
    """One engine in a process of its own.

    Attributes:
        loaded_s: how long it took to load.
    """

    def __init__(self, command: Sequence[str | Path], *, log: Path, limit_s: float) -> None:
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        try:
            self.loaded_s = float(json.loads(self._read_line(limit_s))["loaded_s"])
        except BaseException:
            self.close()
            raise

    def run(self, work: Work, limit_s: float) -> Turn:
        """Let it do the work.

        Raises:
            PeerFailed: see there; the process is gone.
        """
        assert self._process.stdin is not None
        try:
            print(json.dumps(asdict(work)), file=self._process.stdin, flush=True)
            answer = json.loads(self._read_line(limit_s))
        except BrokenPipeError as error:
            raise PeerFailed(self._last_words()) from error
        rows: list[list[int]] = answer["tokens"]
        if [len(row) for row in rows] != work.lengths:
            wrong = [
                f"row {i}: {len(row)} tokens instead of {length}"
                for i, (row, length) in enumerate(zip(rows, work.lengths, strict=False))
                if len(row) != length
            ]
            raise PeerFailed(f"{len(rows)} rows of {len(work.lengths)}; {'; '.join(wrong[:3])}")
        return Turn(
            tokens_per_s=work.num_tokens / answer["wall_s"],
            wall_s=answer["wall_s"],
            own_s=answer["own_s"],
            foreign_share=answer["foreign_share"],
            first_tokens=tuple(row[0] for row in rows),
        )

    def resident_bytes(self) -> int:
        """Return the most memory that the process has held so far; 0 if it is gone."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return 0
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields.get("VmHWM", "0 kB").split()[0]) * 1024

    def close(self) -> None:
        """End the process and its children."""
        self._kill()
        self._process.communicate()

    def _read_line(self, limit_s: float) -> str:
        assert self._process.stdout is not None
        begin_s = time.monotonic()
        end = Timer(limit_s, self._kill)
        end.start()
        line = self._process.stdout.readline()
        end.cancel()
        if line:
            return line
        is_late = time.monotonic() - begin_s >= limit_s
        raise PeerFailed(f"took more than {limit_s:.0f} s" if is_late else self._last_words())

    def _last_words(self) -> str:
        """Return the line of the log that says most about why the process died."""
        said = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        lines = [line for line in said if line]
        errors = [line for line in lines if "error" in line.lower()]
        return [*lines, *errors, *([] if lines else ["died without a word"])][-1][:300]

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
