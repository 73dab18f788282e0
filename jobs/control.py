"""What may be changed about a job after it was made. Knows how to read and write it, no Redis.

`control.json` lies in the job directory beside `job.json`, whose words it overrules. Whoever
changes it holds the job's lock until the job table has been told too, so that disk and table
never learn of two changes in a different order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from .durable import fsync_directory, replace_file, storage_errors
from .errors import JobBusy
from .file_lock import file_lock
from .job_dir import JobDir
from .model import JobSpec
from .sealed_json import encode_sealed, read_sealed

PAUSED_BY_USER = "user"
BY_USER_IN_WORDS = "paused_by_user: nothing more is begun until it is resumed"
LOCK_WAIT_S = 2.0  # for a job's lock: changes take milliseconds


@dataclass(frozen=True, slots=True)
class Control:
    """All of a job that can be changed while it lives."""

    name: str | None
    priority: int
    metadata: dict[str, str] = field(default_factory=dict)
    deadline_ms: int | None = None
    max_error_rate: float | None = None
    error_rate_after: int = 0
    pause_reason: str | None = None  # it pauses, and why
    judged_from_rows: int = 0  # landed when it was last resumed: these do not count any more
    judged_from_failed: int = 0
    judged_from_errors: dict[str, int] = field(default_factory=dict)  # these, by their codes

    @classmethod
    def of(cls, spec: JobSpec) -> Self:
        """Return what a job starts with."""
        return cls(
            name=spec.name,
            priority=spec.priority,
            metadata=spec.metadata,
            deadline_ms=spec.deadline_ms,
            max_error_rate=spec.max_error_rate,
            error_rate_after=spec.error_rate_after,
        )


def has_control(job_dir: JobDir) -> bool:
    """Tell whether anything was ever changed about a job."""
    return _path(job_dir).exists()


def read_control(job_dir: JobDir, spec: JobSpec) -> Control:
    """Read what is in force for a job.

    Raises:
        CorruptJob: the file is there, and damaged.
        OSError: the disk does not do its work just now.
    """
    return read_sealed(_path(job_dir), Control) or Control.of(spec)


def durable_control(job_dir: JobDir, spec: JobSpec) -> Control:
    """Read what is in force, and see to it that this lasts: then others may be told of it.

    Whoever wrote it may have died before that.

    Raises:
        CorruptJob: the file is there, and damaged.
        StorageFull: there is no room.
        OSError: the disk does not do its work just now.
    """
    control = read_control(job_dir, spec)
    if has_control(job_dir):
        with storage_errors(job_dir.path):
            fsync_directory(job_dir.path)
    return control


def write_control(job_dir: JobDir, control: Control) -> None:
    """Put it in force, durably; the job's lock must be held.

    Raises:
        StorageFull: there is no room; the older one stays in force.
    """
    replace_file(_path(job_dir), encode_sealed(control))


@contextmanager
def job_lock(job_dir: JobDir, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Keep all others from changing this job meanwhile; nobody waits for a holder for long.

    Raises:
        JobBusy: another process still holds it after `wait_s`.
        StorageFull: there is no room for the lock's file.
    """
    with file_lock(job_dir.path / ".lock", wait_s=wait_s) as held:
        if held is None:
            raise JobBusy(job_dir.job_id)
        yield


def _path(job_dir: JobDir) -> Path:
    return job_dir.path / "control.json"
