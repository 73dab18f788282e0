"""Jobs of which the disk may know a change that the table has not heard of. Knows names, no more.

Whoever changes a job notes it here first, and takes it back when the table has been told. What is
left by those who were killed between, or whom Redis did not answer, the keeper settles.

    $data/unsettled/JOB     empty; made and removed under the job's lock
"""

from pathlib import Path

from .durable import storage_errors
from .job_dir import JobDir


def begin_change(job_dir: JobDir) -> None:
    """Note that a job is about to be changed; its lock must be held.

    Raises:
        StorageFull: there is no room.
    """
    path = _path(job_dir)
    with storage_errors(path):
        path.parent.mkdir(exist_ok=True)
        path.touch()


def end_change(job_dir: JobDir) -> None:
    """Note that the table knows all that the disk does; the lock must be held."""
    _path(job_dir).unlink(missing_ok=True)


def is_unsettled(job_dir: JobDir) -> bool:
    """Tell whether a change of a job may not have reached the table."""
    return _path(job_dir).exists()


def unsettled(jobs_dir: Path) -> list[str]:
    """Name the jobs that live, of which a change may not have reached the table."""
    directory = _directory(jobs_dir)
    names = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    found = (JobDir(jobs_dir, name) for name in names)
    return [each.job_id for each in found if each.spec.exists() and not each.final.exists()]


def _path(job_dir: JobDir) -> Path:
    return _directory(job_dir.path.parent) / job_dir.job_id


def _directory(jobs_dir: Path) -> Path:
    return jobs_dir.parent / "unsettled"
