"""Rows that may have killed the engine, and how the culprit among them is found.

Knows one small file per shard, in the job's directory, beside the input. The worker notes crashes
in it, its engine process what is on trial. It is only a trace: losing it costs another crash or
two.

    the engine dies          all rows that were in it, and had not ended, become suspects: a group
                             for each shard
    suspects are tried       one group after another, beside rows that nobody suspects
    a group's engine dies    its rows fall apart into `PARTS` smaller groups, which come first; the
                             rows beside it become suspects too, or two culprits could hide
                             behind each other for long
    a row ends               it is cleared
    a row on its own kills   from now on it is tried alone: nothing else is in the engine
    it kills alone           `GUILTY_AFTER` times: that row fails, and no other

Why beside others, and in parts of eight: the engine stays full while suspects are tried, so what a
culprit costs is how often the engine must be loaded again. Among 64 rows it dies six times: at
first, with 64 suspects, with 8, with one beside others, and with that one alone twice. Halving
takes up to nine, and trying row after row four, but then 64 trials follow upon each other. Most
engines die for reasons that no row is guilty of, and then one trial per shard clears them all.

A crash beside a request that somebody waited for is no proof against the row that ran alone: it
takes `NO_PROOF` of them to count as one.
"""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from .model import ShardRef

PARTS = 8
GUILTY_AFTER = 2
NO_PROOF = 3


class _Trace(msgspec.Struct):
    """What the file holds. Rows are named by their index."""

    is_accused: bool = False  # all unfinished rows are suspects, but in no group yet
    groups: list[list[int]] = []  # the first one is tried first
    is_on_trial: bool = False  # the first group is in the engine
    is_alone: bool = False  # and nothing else
    cornered: list[int] = []  # have killed as a group of one, and are to be tried alone
    proofs: dict[int, int] = {}  # crashes with the row alone
    doubts: dict[int, int] = {}  # the same, beside a request
    reasons: dict[int, str] = {}  # how it died the last time


class Suspects:
    """The trace of one shard."""

    def __init__(self, jobs_dir: Path, ref: ShardRef) -> None:
        self._path = jobs_dir / ref.job_id / "suspects" / f"{ref.index}.json"
        self._trace = self._read()

    # What the worker notes, and asks.

    @property
    def has_row_alone(self) -> bool:
        """Whether one of the shard's rows is in the engine, and nothing else."""
        return self._trace.is_alone

    def note_crash(self, reason: str, *, is_proof: bool = True) -> None:
        """Note that the engine died with rows of this shard in it."""
        trace = self._trace
        if trace.is_on_trial and len(trace.groups[0]) > 1:
            trace.groups[:1] = _split(trace.groups[0])
        elif trace.is_on_trial:
            self._note_single(trace.groups[0][0], reason, is_proof)
        trace.is_accused |= not trace.is_alone
        trace.is_on_trial = trace.is_alone = False
        self._write()

    # What the engine process notes, and asks.

    @property
    def is_on_trial(self) -> bool:
        """Whether some of the shard's rows are in the engine because they are suspects."""
        return self._trace.is_on_trial

    def begin(self, unfinished: Collection[int]) -> None:
        """Bring the groups up to the rows that are left to be run; no trial is under way."""
        trace = self._trace
        if not (trace.is_accused or trace.groups):
            return
        trace.groups = _without(trace.groups, unfinished)
        if trace.is_accused:
            known = {row for group in trace.groups for row in group}
            if fresh := [row for row in unfinished if row not in known]:
                trace.groups.append(fresh)
        trace.is_accused = trace.is_on_trial = trace.is_alone = False
        self._write()

    @property
    def rows(self) -> frozenset[int]:
        """All suspects."""
        return frozenset(row for group in self._trace.groups for row in group)

    @property
    def num_rows(self) -> int:
        """How many suspects there are."""
        return sum(map(len, self._trace.groups))

    @property
    def group(self) -> Sequence[int]:
        """The rows to be tried next, or on trial; none when nobody is suspected."""
        return tuple(self._trace.groups[0]) if self._trace.groups else ()

    @property
    def wants_alone(self) -> bool:
        """Whether the next row is to be tried with nothing beside it."""
        return len(self.group) == 1 and self.group[0] in self._trace.cornered

    def begin_trial(self, *, is_alone: bool) -> None:
        """Note, before they go to the engine, that the rows of `group` are on trial."""
        self._trace.is_on_trial, self._trace.is_alone = True, is_alone
        self._write()

    def clear(self, row_index: int) -> None:
        """Clear a row, because it has ended; the trial is over with the last one of its group."""
        trace = self._trace
        trace.groups[0].remove(row_index)
        if not trace.groups[0]:
            del trace.groups[0]
            trace.is_on_trial = trace.is_alone = False
        self._write()

    def break_off(self) -> None:
        """Note that a trial has ended without a result: the shard was taken back."""
        self._trace.is_on_trial = self._trace.is_alone = False
        self._write()

    def verdict(self, row_index: int) -> str | None:
        """Say why a row must not run again; None when it may."""
        trace = self._trace
        num_proofs, num_doubts = trace.proofs.get(row_index, 0), trace.doubts.get(row_index, 0)
        if num_proofs * NO_PROOF + num_doubts < GUILTY_AFTER * NO_PROOF:
            return None
        num_crashes, reason = num_proofs + num_doubts, trace.reasons[row_index]
        return f"the engine died {num_crashes} times while it ran this row alone: {reason}"

    def remove(self) -> None:
        """Forget it all: the shard has landed."""
        self._path.unlink(missing_ok=True)

    def _note_single(self, row_index: int, reason: str, is_proof: bool) -> None:
        trace = self._trace
        if trace.is_alone:
            counted = trace.proofs if is_proof else trace.doubts
            counted[row_index] = counted.get(row_index, 0) + 1
            trace.reasons[row_index] = reason
        elif row_index not in trace.cornered:
            trace.cornered.append(row_index)
        if self.verdict(row_index) is not None:
            del trace.groups[0]

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


def _split(rows: Sequence[int]) -> list[list[int]]:
    size = -(-len(rows) // PARTS)
    return [list(rows[first : first + size]) for first in range(0, len(rows), size)]


def _without(groups: list[list[int]], unfinished: Collection[int]) -> list[list[int]]:
    left = set(unfinished)
    kept = ([row for row in group if row in left] for group in groups)
    return [group for group in kept if group]
