"""The directory of one run: the truth about it. Knows files, no Redis and no step's meaning.

$data/runs/<run_id>/
    run.json               what is to be done, sealed, written last
    inputs/<name>.parquet  its rows, one row group per shard, as in a job directory
    inputs/<name>.rejected.jsonl   the lines that could not become rows, if there were any
    control.json           what was changed about it since: see `run_control`
    started.json           when something was first made of it
    pause.json             that it pauses, and why
    final.json             how it ended, once it has
    results                a link to where its rows land, for the sweep and for people
$data/runs/.open/<run_id>  as long as anything is left to be done about it

Where its rows land: see `run_results`.
"""

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import msgspec

from ...control import BY_USER_IN_WORDS
from ...durable import (
    create_file,
    fsync_directory,
    make_directories,
    may_exist,
    replace_file,
    storage_errors,
)
from ...errors import CorruptJob, UnknownJob
from ...linked_results import LinkedResults
from ...model import JobState, RejectedLine
from ...sealed_input import SealedInput
from ...sealed_json import encode_sealed, read_sealed
from .run_spec import RUN_VERSION, RunSpec

_RUN_ID = re.compile(r"run_[A-Za-z0-9]{1,40}")  # no dots, no slashes: it names a directory


@dataclass(frozen=True, slots=True)
class RunFinal:
    """How a run ended, and its last report: see `report`."""

    state: JobState
    at_ms: int
    error: str | None = None
    report: Any = None


@dataclass(frozen=True, slots=True)
class RunPause:
    """That a run pauses, and why.

    Attributes:
        judged_from: the rows of each step, and those that failed, when the run was last resumed:
            these do not count any more.
    """

    reason: str | None = None
    judged_from: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    is_on: bool = True


@dataclass(frozen=True, slots=True)
class _Started:
    at_ms: int


class RunDir(LinkedResults):
    """One run's directory under `runs_dir`."""

    def __init__(self, runs_dir: Path, run_id: str) -> None:
        if not _RUN_ID.fullmatch(run_id):
            raise UnknownJob(run_id)
        super().__init__(runs_dir / run_id)
        self.run_id = run_id
        self.spec = self.path / "run.json"
        self.inputs = self.path / "inputs"
        self._final = self.path / "final.json"
        self._pause = self.path / "pause.json"
        self.control = self.path / "control.json"
        self._started = self.path / "started.json"
        self._marker = self.markers(runs_dir) / run_id

    @classmethod
    def all(cls, runs_dir: Path, after: str | None = None) -> Iterator[str]:
        """Name all runs, newest first, or those behind one; none is looked at before its turn."""
        if not runs_dir.is_dir():
            return
        names = (path.name for path in runs_dir.iterdir() if _RUN_ID.fullmatch(path.name))
        for name in sorted(names, reverse=True):
            if (after is None or name < after) and may_exist(runs_dir / name / "run.json"):
                yield name

    @staticmethod
    def markers(runs_dir: Path) -> Path:
        """Name where it is noted about which runs something is left to be done."""
        return runs_dir / ".open"

    @classmethod
    def unsettled(cls, runs_dir: Path) -> list[str]:
        """Name the runs about which something is left to be done, oldest first."""
        marked = cls.markers(runs_dir)
        if not marked.is_dir():
            return []
        return sorted(path.name for path in marked.iterdir() if _RUN_ID.fullmatch(path.name))

    @classmethod
    def half_made(cls, runs_dir: Path, older_than_s: float) -> Iterator[Self]:
        """Find directories that never became runs, and have not been touched for so long."""
        names = {path.name for path in runs_dir.iterdir()} if runs_dir.is_dir() else set()
        for name in sorted(names.union(cls.unsettled(runs_dir))):
            if not _RUN_ID.fullmatch(name) or may_exist(runs_dir / name / "run.json"):
                continue
            half = cls(runs_dir, name)
            with suppress(FileNotFoundError):  # its submission is ending just now
                inputs = half.inputs.glob("*")  # they grow, and the directories stay as they are
                found = [half.path, half.inputs, *inputs] if half.path.exists() else [half._marker]
                if time.time() - max(path.lstat().st_mtime for path in found) > older_than_s:
                    yield half

    def create(self) -> None:
        """Make the empty directory.

        Raises:
            StorageFull: there is no room.
        """
        make_directories(self.inputs)

    def seal(self, spec: RunSpec) -> None:
        """Write `run.json`: from now on the directory is a run. Its inputs are durable.

        Raises:
            StorageFull: there is no room; the directory is no run.
        """
        make_directories(self._marker.parent)
        create_file(self._marker, b"")
        fsync_directory(self.inputs)
        replace_file(self.spec, encode_sealed(spec))

    def remove(self) -> None:
        """Remove it all; `run.json` first, so that no half of a run is ever seen."""
        self.spec.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.settle()

    def settle(self) -> None:
        """Note that nothing is left to be done about it."""
        self._marker.unlink(missing_ok=True)

    def read(self) -> RunSpec:
        """Read the sealed spec.

        Raises:
            UnknownJob: there is no such run.
            CorruptJob: its bytes are damaged, or a newer Penstock wrote them.
        """
        spec = read_sealed(self.spec, RunSpec)
        if spec is None:
            raise UnknownJob(self.run_id)
        if spec.version > RUN_VERSION:
            raise CorruptJob(
                f"{self.spec} has version {spec.version}, this Penstock reads {RUN_VERSION}: "
                "upgrade it"
            )
        return spec

    def durable_spec(self) -> RunSpec:
        """Read the sealed spec, and see to it that this lasts: then others may be told of the run.

        Whoever sealed it may have died before that.

        Raises:
            UnknownJob: there is no such run.
            CorruptJob: its bytes are damaged, or a newer Penstock wrote them.
            StorageFull: there is no room.
        """
        spec = self.read()
        self._make_names_last()
        return spec

    def input(self, name: str) -> Path:
        """Name the file of an input."""
        return self.inputs / f"{name}.parquet"

    def open_input(self, name: str) -> SealedInput:
        """Open the rows of an input.

        Raises:
            CorruptInput: they cannot be read.
        """
        return SealedInput(self.input(name))

    def rejected(self, name: str) -> Path:
        """Name the file of the lines of an input that could not become rows."""
        return self.inputs / f"{name}.rejected.jsonl"

    def read_rejected(self, name: str) -> Iterator[RejectedLine]:
        """Read the lines of an input that could not become rows."""
        for _, line in self.rejected_from(name, 0):
            yield line

    def rejected_from(self, name: str, offset: int) -> Iterator[tuple[int, RejectedLine]]:
        """Read them from a byte on at which one begins; each comes with the byte where it begins.

        Raises:
            ValueError: no line begins there.
        """
        if not self.rejected(name).exists():
            return
        with self.rejected(name).open("rb") as file:
            if offset:
                file.seek(offset - 1)
                if file.read(1) != b"\n":
                    raise ValueError(f"no rejected line of {name} begins at byte {offset}")
            for line in file:
                yield offset, msgspec.json.decode(line, type=RejectedLine)
                offset += len(line)

    def read_started(self) -> int | None:
        """Read when something was first made of it, in ms; None if nothing was."""
        found = read_sealed(self._started, _Started)
        return None if found is None else found.at_ms

    def note_started(self, at_ms: int) -> None:
        """Note durably when something was first made of it; the first note stands.

        Raises:
            StorageFull: there is no room.
        """
        create_file(self._started, encode_sealed(_Started(at_ms)))

    def read_final(self) -> RunFinal | None:
        """Read how the run ended; None while it has not."""
        return read_sealed(self._final, RunFinal)

    def durable_final(self) -> RunFinal | None:
        """Read how the run ended, and see to it that this lasts: then something may follow from it.

        Whoever wrote it may have died before that.

        Raises:
            CorruptJob: the file is there, and damaged.
            StorageFull: there is no room.
        """
        final = self.read_final()
        if final is not None:
            self._make_names_last()
        return final

    def write_final(self, final: RunFinal) -> RunFinal:
        """Record how the run ended, once; returns the record that stands, ours or an earlier one.

        Raises:
            StorageFull: there is no room; the run has not ended.
        """
        create_file(self._final, encode_sealed(final))
        return self.read_final() or final

    def read_pause(self) -> RunPause:
        """Read whether it pauses, and why: where no reason was noted, it is somebody's wish."""
        pause = read_sealed(self._pause, RunPause) or RunPause(is_on=False)
        if pause.is_on and pause.reason is None:
            return replace(pause, reason=BY_USER_IN_WORDS)
        return pause

    def write_pause(self, pause: RunPause) -> None:
        """Let it pause, or go on, durably.

        Raises:
            StorageFull: there is no room; nothing has changed.
        """
        replace_file(self._pause, encode_sealed(pause))

    def _make_names_last(self) -> None:
        with storage_errors(self.path):
            fsync_directory(self.path)
