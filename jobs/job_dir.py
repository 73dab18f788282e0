"""The directory of one job: the truth about it. Knows files, no Redis and no template.

$data/jobs/<job_id>/
    input.parquet      the accepted rows, one row group per shard
    bad_lines.jsonl    the lines that could not become rows
    job.json           the spec, written last: without it the directory is not a job
    final.json         how the job ended, once it has
    results            a link to where its rows land, for the sweep and for people
    suspects/          rows that may have killed an engine, until their shards have landed
    unlanded/          rows that have ended, until their shards have landed
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from .durable import (
    create_file,
    fsync_directory,
    fsync_file,
    make_directories,
    may_exist,
    replace_file,
    storage_errors,
)
from .errors import CorruptJob, NewerJob, UnknownJob
from .linked_results import LinkedResults
from .model import SPEC_VERSION, JobSpec, JobState, RejectedLine
from .sealed_input import SealedInput
from .sealed_json import DAMAGED, decode_sealed, encode_sealed, read_sealed

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")  # no dots, no slashes: it names a directory


@dataclass(frozen=True, slots=True)
class Final:
    """How a job ended. On disk, so that a wiped Redis does not revive it."""

    state: JobState
    at_ms: int
    started_at_ms: int | None = None
    error: str | None = None


class _Versioned(msgspec.Struct):
    """As much of a spec as can be read of any version."""

    version: int = 1


class JobDir(LinkedResults):
    """One job's directory under `jobs_dir`."""

    def __init__(self, jobs_dir: Path, job_id: str) -> None:
        if not _JOB_ID.fullmatch(job_id):
            raise UnknownJob(job_id)
        super().__init__(jobs_dir / job_id)
        self.job_id = job_id
        self.input = self.path / "input.parquet"
        self.bad_lines = self.path / "bad_lines.jsonl"
        self.spec = self.path / "job.json"
        self.final = self.path / "final.json"

    @classmethod
    def all(cls, jobs_dir: Path) -> Iterator[Self]:
        """Find all jobs, oldest first; a directory that cannot be looked into counts as one."""
        if not jobs_dir.is_dir():
            return
        for path in sorted(jobs_dir.iterdir()):
            if _JOB_ID.fullmatch(path.name) and may_exist(path / "job.json"):
                yield cls(jobs_dir, path.name)

    @classmethod
    def half_made(cls, jobs_dir: Path, older_than_s: float) -> Iterator[Self]:
        """Find directories that never became jobs, and have not been touched for so long."""
        if not jobs_dir.is_dir():
            return
        for path in sorted(jobs_dir.iterdir()):
            if not _JOB_ID.fullmatch(path.name) or may_exist(path / "job.json"):
                continue
            if not path.is_dir():  # somebody put a file here; it is not ours to remove
                continue
            with suppress(FileNotFoundError):  # its submission is ending just now
                touched_s = max(each.lstat().st_mtime for each in (path, *path.glob("*")))
                if time.time() - touched_s > older_than_s:
                    yield cls(jobs_dir, path.name)

    def create(self) -> None:
        """Make the empty directory.

        Raises:
            StorageFull: there is no room.
        """
        with storage_errors(self.path):
            make_directories(self.path.parent)
            self.path.mkdir()
            fsync_directory(self.path.parent)

    def seal(self, spec: JobSpec) -> None:
        """Write `job.json`: from now on the directory is a job. Its other files are complete.

        Raises:
            StorageFull: there is no room; the directory is no job.
        """
        with storage_errors(self.path):
            for path in (self.input, self.bad_lines):
                fsync_file(path)
            fsync_directory(self.path)  # else job.json may outlive the name of its input
        replace_file(self.spec, encode_sealed(spec))

    def remove(self) -> None:
        """Remove it all; `job.json` first, so that no half of a job is ever seen."""
        self.spec.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def read_spec(self) -> JobSpec:
        """Read the sealed spec.

        Raises:
            UnknownJob: there is no such job.
            NewerJob: a newer Penstock wrote it, and says what this one does not know.
            CorruptJob: its bytes are damaged.
            OSError: the disk does not do its work just now.
        """
        try:
            content = self.spec.read_bytes()
            version = decode_sealed(self.spec, content, _Versioned).version
            spec = None if version > SPEC_VERSION else msgspec.json.decode(content, type=JobSpec)
        except (FileNotFoundError, NotADirectoryError):
            raise UnknownJob(self.job_id) from None
        except DAMAGED as error:
            raise CorruptJob(f"cannot read {self.spec}: {error}") from error
        if spec is None:
            raise NewerJob(
                f"{self.spec} has version {version}, this Penstock reads {SPEC_VERSION}: upgrade it"
            )
        return spec

    def open_input(self) -> SealedInput:
        """Open the accepted rows.

        Raises:
            CorruptInput: they cannot be read.
        """
        return SealedInput(self.input)

    def read_bad_lines(self) -> Iterator[RejectedLine]:
        """Read the lines that could not become rows."""
        if not self.bad_lines.exists():
            return
        with self.bad_lines.open("rb") as file:
            for line in file:
                yield msgspec.json.decode(line, type=RejectedLine)

    def read_final(self) -> Final | None:
        """Read how the job ended; None while it has not.

        Raises:
            CorruptJob: the file is there, and damaged.
            OSError: the disk does not do its work just now.
        """
        return read_sealed(self.final, Final)

    def durable_final(self) -> Final | None:
        """Read how the job ended, and see to it that this lasts: then others may be told of it.

        Whoever linked the file may have died before that.

        Raises:
            CorruptJob: the file is there, and damaged.
            StorageFull: there is no room.
            OSError: the disk does not do its work just now.
        """
        final = self.read_final()
        if final is not None:
            with storage_errors(self.path):
                fsync_directory(self.path)
        return final

    def write_final(self, final: Final) -> Final:
        """Record how the job ended, once; returns the record that stands, ours or an earlier one.

        Raises:
            StorageFull: there is no room; the job has not ended.
        """
        create_file(self.final, encode_sealed(final))
        standing = self.read_final()
        if standing is None:
            raise CorruptJob(f"{self.final} is gone as soon as it was written")
        for traces in (self.path / "suspects", self.path / "unlanded"):
            shutil.rmtree(traces, ignore_errors=True)
        return standing

    def replace_final(self, final: Final) -> None:
        """Record that a job which had ended has been brought to a better end: see `joining`.

        Raises:
            StorageFull: there is no room; the earlier record stands.
        """
        replace_file(self.final, encode_sealed(final))
