"""Sweeps what killed processes left on disk. Knows files and their ages, no table.

a directory without job.json                 -> removed, with the one made for its results
results of no job at all, without an end     -> removed, below the data directory
.<name>.<pid>.<random>.tmp                   -> removed, beside job.json and the manifest
_tmp and unlanded/ of a job that has ended   -> removed
an idempotency key of a job that is gone     -> removed

What is left of runs, `run_sweep` removes.
"""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .durable import may_exist, temporary_files
from .idempotency import IdempotencyKey
from .job_dir import JobDir
from .results_dir import ResultsDir
from .settings import Settings
from .workflow.runs.run_sweep import sweep_runs

LEFT_BEHIND_AGE_S = 24 * 3600  # nobody uploads one input for that long, or writes one file
_OUR_NAME = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}")


def sweep(settings: Settings, older_than_s: float = LEFT_BEHIND_AGE_S) -> int:
    """Remove what has not been touched for so long and can be nobody's any more.

    Returns how many jobs and runs it found something of.
    """
    num_swept = 0
    for half_made in JobDir.half_made(settings.jobs_dir, older_than_s):
        results = _results(half_made)
        if results is not None:
            results.remove()
        half_made.remove()
        num_swept += 1
    for stray in _stray_results(settings, older_than_s):
        stray.remove()
        num_swept += 1
    for job_dir in JobDir.all(settings.jobs_dir):
        num_swept += _sweep_job(job_dir, older_than_s)
    for key in IdempotencyKey.all(settings):
        num_swept += _sweep_key(key, older_than_s)
    return num_swept + sweep_runs(settings, older_than_s)


def _sweep_job(job_dir: JobDir, older_than_s: float) -> bool:
    left_behind = [path for path in _temporaries(job_dir) if _is_older(path, older_than_s)]
    for path in left_behind:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return bool(left_behind)


def _sweep_key(key: IdempotencyKey, older_than_s: float) -> bool:
    if not _is_older(key.path, older_than_s):
        return False
    with key.lock() as held:
        is_nobodys = held.is_nobodys()
        if is_nobodys:
            held.free()
    return is_nobodys


def _stray_results(settings: Settings, older_than_s: float) -> Iterator[ResultsDir]:
    """Find what a writer left that was killed while its job was removed.

    Rows with a manifest are somebody's, whatever has become of their job.
    """
    if not settings.jobs_dir.is_dir():  # then it says nothing that a job is not found there
        return
    for path in settings.results_dir.glob("job_*"):
        results = ResultsDir(path)
        if (
            _OUR_NAME.fullmatch(path.name)
            and not may_exist(settings.jobs_dir / path.name)
            and not any(may_exist(end) for end in (results.manifest, results.success))
            and all(_is_older(each, older_than_s) for each in (path, *path.rglob("*")))
        ):
            yield results


def _results(job_dir: JobDir) -> ResultsDir | None:
    path = job_dir.linked_results()
    return ResultsDir(path) if path is not None and path.name == job_dir.job_id else None


def _temporaries(job_dir: JobDir) -> Iterator[Path]:
    results = _results(job_dir)
    yield from temporary_files(job_dir.path)
    if results is not None:
        yield from temporary_files(results.path)
    if job_dir.final.exists():
        yield job_dir.path / "unlanded"  # rows of shards that were not to land any more: `journal`
        if results is not None:
            yield results.temporary


def _is_older(path: Path, than_s: float) -> bool:
    with suppress(FileNotFoundError):  # whoever it belonged to was still alive
        return time.time() - path.lstat().st_mtime > than_s
    return False
