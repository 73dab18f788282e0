"""Rows that may kill the engine, found by running them alone. Knows one small file per shard.

    crashed once or twice        like any other shard
    crashed CAREFUL_AFTER times  carefully: alone in the engine, row after row, each noted before it
                                 runs, so that a crash points at one row
    a row crashed GUILTY_AFTER   that row fails, and the others of its shard go on
      times when running alone

The file lies in the job's directory, beside the input. The worker counts the crashes it sees, its
engine process notes the rows. It is only a trace: losing it costs another crash or two.
"""

import contextlib
import os
from pathlib import Path

import msgspec

from .model import ShardRef

CAREFUL_AFTER = 2
GUILTY_AFTER = 2


class _Trace(msgspec.Struct):
    """What the file holds."""

    crashes: int = 0  # of the engine, while it held this shard
    row: int | None = None  # the one that runs now, alone
    row_crashes: dict[int, int] = {}


class Suspects:
    """The trace of one shard."""

    def __init__(self, jobs_dir: Path, ref: ShardRef) -> None:
        self._path = jobs_dir / ref.job_id / "suspects" / f"{ref.index}.json"
        self._trace = self._read()

    @property
    def wants_care(self) -> bool:
        """Whether the shard's rows should run one by one."""
        return self._trace.crashes >= CAREFUL_AFTER

    def num_crashes(self, row_index: int) -> int:
        """Count the crashes while this row ran alone."""
        return self._trace.row_crashes.get(row_index, 0)

    def is_guilty(self, row_index: int) -> bool:
        """Whether the row must not run again."""
        return self.num_crashes(row_index) >= GUILTY_AFTER

    def note_row(self, row_index: int) -> None:
        """Remember that from now on this row runs, alone."""
        self._trace.row = row_index
        self._write()

    def note_crash(self) -> None:
        """Count a crash, against the shard and against the row that ran alone, if one did."""
        self._trace.crashes += 1
        row = self._trace.row
        if row is not None:
            self._trace.row_crashes[row] = self.num_crashes(row) + 1
            self._trace.row = None
        self._write()

    def _read(self) -> _Trace:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Trace)
        except (OSError, msgspec.MsgspecError):
            return _Trace()

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # a full disk must not stop rows from being run
            self._path.parent.mkdir(exist_ok=True)
            temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_bytes(msgspec.json.encode(self._trace))
            temporary.replace(self._path)
