"""What removed jobs had used, by tenant: `usage` still counts it. Knows files, and no rows.

    removed/<tenant>/job_01K3….json    one of them
                     _days.json        sums by day and model over those of which no file is left

Once there are many files they are folded into the sums. What was folded last is named beside the
sums, so that nothing counts twice if its files are still there.
"""

import datetime
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from .durable import StorageFull, make_directories, replace_file
from .file_lock import file_lock
from .job_table import JobTable
from .model import JobSnapshot
from .settings import Settings

_MAX_FILES = 1_000
_COUNTS = ("rows_succeeded", "rows_failed", "prompt_tokens", "completion_tokens", "cached_tokens")

logger = logging.getLogger(__name__)


class RemovedJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a removed job had used, or several that were made on one day: then `job_id` names it."""

    job_id: str
    model: str
    created_at_ms: int
    rows_succeeded: int
    rows_failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    num_jobs: int = 1

    @classmethod
    def of(cls, job: JobSnapshot) -> "RemovedJob":
        """Return what a job has used."""
        return cls(
            job_id=job.job_id,
            model=job.model,
            created_at_ms=job.created_at_ms,
            rows_succeeded=job.counts.succeeded,
            rows_failed=job.counts.failed,
            prompt_tokens=job.prompt_tokens,
            completion_tokens=job.completion_tokens,
            cached_tokens=job.cached_tokens,
        )


class _Days(msgspec.Struct, frozen=True, kw_only=True):
    """Sums, and the jobs that were added to them last, whose files may still be there."""

    sums: list[RemovedJob] = []
    folded: frozenset[str] = frozenset()


def note(settings: Settings, table: JobTable, job: JobSnapshot) -> None:
    """Note what a job has used that is about to be removed, once, durably.

    Raises:
        StorageFull: there is no room.
    """
    directory = _directory(settings, job.tenant)
    make_directories(directory)
    if len(_files(directory)) >= _MAX_FILES:
        _fold(directory, settings, table)
    replace_file(directory / f"{job.job_id}.json", msgspec.json.encode(RemovedJob.of(job)))


def removed_jobs(settings: Settings, tenant: str) -> list[RemovedJob]:
    """Read what a tenant's removed jobs had used; sums count as made when their day began."""
    directory = _directory(settings, tenant)
    days = _read_days(directory)
    while True:
        jobs = list(_read(_files(directory)))
        before, days = days, _read_days(directory)
        if days == before:  # nothing was folded meanwhile
            break
    known = days or _Days()
    return [*known.sums, *(job for job in jobs if job.job_id not in known.folded)]


def _fold(directory: Path, settings: Settings, table: JobTable) -> None:
    """Add all but those that a crash has left in the table to the sums; they are removed again."""
    try:
        with file_lock(directory / ".lock") as held:
            days = _read_days(directory)
            if held is None or days is None:
                return
            for job_id in days.folded:
                (directory / f"{job_id}.json").unlink(missing_ok=True)
            jobs = list(_read(_files(directory)))
            known = table.snapshots([job.job_id for job in jobs])
            gone = [
                job
                for job, snapshot in zip(jobs, known, strict=True)
                if snapshot is None and not (settings.jobs_dir / job.job_id).exists()
            ]
            folded = frozenset(job.job_id for job in gone)
            sums = _summed([*days.sums, *gone])
            replace_file(
                directory / "_days.json", msgspec.json.encode(_Days(sums=sums, folded=folded))
            )
            for job_id in folded:
                (directory / f"{job_id}.json").unlink(missing_ok=True)
    except (OSError, StorageFull) as error:  # they count as they are
        logger.warning("files in %s cannot be folded yet: %s", directory, error)


def _summed(jobs: Iterable[RemovedJob]) -> list[RemovedJob]:
    """Add jobs up by day and model."""
    sums: dict[tuple[str, str], RemovedJob] = {}
    for job in jobs:
        made_at = datetime.datetime.fromtimestamp(job.created_at_ms / 1000, datetime.UTC)
        day = made_at.replace(hour=0, minute=0, second=0, microsecond=0)
        key = day.date().isoformat(), job.model
        other = sums.get(key)
        added = {name: getattr(job, name) for name in (*_COUNTS, "num_jobs")}
        if other is not None:
            added = {name: getattr(other, name) + count for name, count in added.items()}
        begin_ms = int(day.timestamp()) * 1000
        sums[key] = RemovedJob(job_id=key[0], model=job.model, created_at_ms=begin_ms, **added)
    return [sums[key] for key in sorted(sums)]


def _files(directory: Path) -> list[Path]:
    return list(directory.glob("[!_]*.json"))


def _read(paths: Iterable[Path]) -> Iterator[RemovedJob]:
    for path in paths:
        try:
            yield msgspec.json.decode(path.read_bytes(), type=RemovedJob)
        except FileNotFoundError:  # it was folded just now
            continue
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            logger.warning("cannot read %s, which is left out: %s", path, error)


def _read_days(directory: Path) -> _Days | None:
    """Read the sums; None if they cannot be read, and so must not be written anew."""
    path = directory / "_days.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Days)
    except FileNotFoundError:
        return _Days()
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        logger.warning("cannot read %s, which is left out: %s", path, error)
        return None


def _directory(settings: Settings, tenant: str) -> Path:
    return settings.data_dir / "removed" / tenant
