"""Rows that may kill the engine, found by running them alone. Knows one small file per shard.

    crashed once or twice        like any other shard
    crashed CAREFUL_AFTER times  carefully: alone in the engine, row after row, each noted before it
                                 runs, so that a crash points at one row
    a row crashed GUILTY_AFTER   that row fails, and the others of its shard go on
      times when running alone

A crash beside a request that somebody waited for, or of an engine that was only ended because it
stood still, is no proof against the row: it takes NO_PROOF of them to count as one.

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
NO_PROOF = 3


class _Trace(msgspec.Struct):
    """What the file holds."""

    crashes: int = 0  # of the engine, while it held this shard
    row: int | None = None  # the one that runs now, alone
    row_crashes: dict[int, int] = {}
    row_doubts: dict[int, int] = {}  # crashes of that row which prove nothing


class Suspects:
    """The trace of one shard."""

    def __init__(self, jobs_dir: Path, ref: ShardRef) -> None:
        self._path = jobs_dir / ref.job_id / "suspects" / f"{ref.index}.json"
        self._trace = self._read()

    @property
    def wants_care(self) -> bool:
        """Whether the shard's rows should run one by one."""
        return self._trace.crashes >= CAREFUL_AFTER

    @property
    def has_row_alone(self) -> bool:
        """Whether one of its rows runs now, alone in the engine."""
        return self._trace.row is not None

    def num_crashes(self, row_index: int) -> int:
        """Count the crashes while this row ran alone."""
        return self._trace.row_crashes.get(row_index, 0) + self._num_doubts(row_index)

    def is_guilty(self, row_index: int) -> bool:
        """Whether the row must not run again."""
        num_proofs = self._trace.row_crashes.get(row_index, 0)
        return num_proofs * NO_PROOF + self._num_doubts(row_index) >= GUILTY_AFTER * NO_PROOF

    def note_row(self, row_index: int) -> None:
        """Remember that from now on this row runs, alone."""
        self._trace.row = row_index
        self._write()

    def note_row_ended(self) -> None:
        """Forget the row that ran alone: what happens now is not its fault."""
        self._trace.row = None
        self._write()

    def note_crash(self, *, is_proof: bool = True) -> None:
        """Count a crash, against the shard and against the row that ran alone, if one did."""
        self._trace.crashes += 1
        row = self._trace.row
        if row is not None:
            counted = self._trace.row_crashes if is_proof else self._trace.row_doubts
            counted[row] = counted.get(row, 0) + 1
            self._trace.row = None
        self._write()

    def _num_doubts(self, row_index: int) -> int:
        return self._trace.row_doubts.get(row_index, 0)

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
