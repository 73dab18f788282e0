"""Rows that may have killed the engine, and how the culprit among them is found.

Knows one small file per shard, in the job's directory, beside the input. The worker notes crashes
in it, its engine process what is on trial. It is only a trace: losing it costs another crash or
two.

    the engine dies       the rows that were in it and had not ended are a fresh group, one for each
                          shard; a group that was there by itself is to blame, and nobody else
    a fresh group         runs before all else, by itself: it fills the engine as well as any rows
    it kills too          its rows fall apart into `PARTS` narrow groups
    a narrow group        is tried now and then, beside rows that nobody suspects (`quarantine_lane`
                          says when); if the engine dies it falls apart again
    a row on its own      that kills beside others is tried by itself from then on
    it kills by itself    `GUILTY_AFTER` times: that row fails, and no other
    a row ends            it is cleared

Among 64 rows a culprit kills six times: at first, with 64 suspects, with 8, beside others, and by
itself twice; that takes 19 trials. Halves would cost 10 crashes and 15 trials, single rows at once
5 and 67, one after another. A crash costs as much as loading a model, a trial beside other rows
next to nothing. And most engines die for reasons that no row is guilty of: then one more run of
the same rows, which fill the engine, clears them all.

A crash beside a request that somebody waited for is no proof against the row that ran by itself: it
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
    """What the file holds. Rows are named by their index; the first group is tried first."""

    is_accused: bool = False  # all unfinished rows are suspects, but in no group yet
    fresh: list[list[int]] = []
    narrow: list[list[int]] = []
    trial: list[int] = []  # in the engine now, and in none of the groups
    is_alone: bool = False  # and nothing else is
    cornered: list[int] = []  # have killed on their own, beside others
    proofs: dict[int, int] = {}  # crashes with the row by itself
    doubts: dict[int, int] = {}  # the same, beside a request
    reasons: dict[int, str] = {}  # how it died the last time


class Suspects:
    """The trace of one shard."""

    def __init__(self, jobs_dir: Path, ref: ShardRef) -> None:
        self._path = jobs_dir / ref.job_id / "suspects" / f"{ref.index}.json"
        self._trace = self._read()

    # What the worker notes, and asks.

    @property
    def is_alone(self) -> bool:
        """Whether rows of the shard are on trial, and nothing else is in the engine."""
        return self._trace.is_alone

    def note_crash(self, reason: str, *, is_proof: bool = True) -> None:
        """Note that the engine died with rows of this shard in it."""
        trace = self._trace
        if len(trace.trial) > 1:
            trace.narrow[:0] = _split(trace.trial)
        elif trace.trial:
            self._note_single(trace.trial[0], reason, is_proof)
        trace.is_accused |= not trace.is_alone
        trace.trial, trace.is_alone = [], False
        self._write()

    # What the engine process notes, and asks.

    def begin(self, unfinished: Collection[int]) -> None:
        """Bring the groups up to the rows that are left to be run; no trial is under way."""
        trace = self._trace
        if not (trace.is_accused or self.rows):
            return
        self._put_back()
        trace.fresh = _without(trace.fresh, unfinished)
        trace.narrow = _without(trace.narrow, unfinished)
        known = self.rows
        if trace.is_accused and (fresh := [row for row in unfinished if row not in known]):
            trace.fresh.append(fresh)
        trace.is_accused = False
        self._write()

    @property
    def rows(self) -> frozenset[int]:
        """All suspects."""
        groups = (*self._trace.fresh, *self._trace.narrow, self._trace.trial)
        return frozenset(row for group in groups for row in group)

    @property
    def num_narrow(self) -> int:
        """How many suspects run only now and then, or do just now."""
        trial = self._trace.trial
        return sum(map(len, self._trace.narrow)) + (len(trial) if self._is_trial_narrow else 0)

    @property
    def has_fresh(self) -> bool:
        """Whether a fresh group is to run before all else."""
        return bool(self._trace.fresh)

    @property
    def wants_alone(self) -> bool:
        """Whether the next row of the narrow groups is to be tried by itself."""
        first = self._trace.narrow[0] if self._trace.narrow else []
        return len(first) == 1 and first[0] in self._trace.cornered

    @property
    def is_on_trial(self) -> bool:
        """Whether some of the shard's rows are in the engine because they are suspects."""
        return bool(self._trace.trial)

    def begin_trial(self) -> Sequence[int]:
        """Take the next group out, and note it as on trial, before its rows go to the engine.

        A fresh group, and a row that is cornered, must be by themselves.
        """
        trace = self._trace
        trace.is_alone = self.has_fresh or self.wants_alone
        trace.trial = (trace.fresh or trace.narrow).pop(0)
        self._write()
        return tuple(trace.trial)

    def clear(self, row_index: int) -> None:
        """Clear a row on trial, because it has ended; the trial is over with the last of them."""
        self._trace.trial.remove(row_index)
        self._trace.is_alone = self._trace.is_alone and bool(self._trace.trial)
        self._write()

    def break_off(self) -> None:
        """Note that a trial has ended without a result: the shard was taken back."""
        self._put_back()
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

    def _put_back(self) -> None:
        trace = self._trace
        if trace.trial:
            (trace.narrow if self._is_trial_narrow else trace.fresh).insert(0, trace.trial)
        trace.trial, trace.is_alone = [], False

    @property
    def _is_trial_narrow(self) -> bool:
        trace = self._trace
        return bool(trace.trial) and (not trace.is_alone or trace.trial[0] in trace.cornered)

    def _note_single(self, row_index: int, reason: str, is_proof: bool) -> None:
        trace = self._trace
        if trace.is_alone:
            counted = trace.proofs if is_proof else trace.doubts
            counted[row_index] = counted.get(row_index, 0) + 1
            trace.reasons[row_index] = reason
        if row_index not in trace.cornered:
            trace.cornered.append(row_index)
        if self.verdict(row_index) is None:
            trace.narrow.insert(0, [row_index])

    def _read(self) -> _Trace:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Trace)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
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
