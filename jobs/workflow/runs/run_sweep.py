"""Sweeps what killed processes left on disk of runs. Knows files and their ages, no table.

a directory without run.json              -> removed, with the one made for its output
.<name>.<pid>.<random>.tmp                -> removed, beside what it was to become
_tmp and scratch of a run that has ended  -> removed
an idempotency key of a run that is gone  -> removed
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...durable import temporary_files
from ...errors import CorruptJob, JobBusy
from ...settings import Settings
from .run_dir import RunDir
from .run_key import RunKey
from .run_results import RunResults


def sweep_runs(settings: Settings, older_than_s: float) -> int:
    """Remove what has not been touched for so long and can be nobody's any more.

    Returns how many runs it found something of.
    """
    num_swept = 0
    for half_made in RunDir.half_made(settings.runs_dir, older_than_s):
        results = half_made.linked_results()
        if results is not None:
            RunResults(results.parent, half_made.run_id).remove()
        half_made.remove()
        num_swept += 1
    for run_id in RunDir.all(settings.runs_dir):
        directory = RunDir(settings.runs_dir, run_id)
        num_swept += _removed(_temporaries(directory), older_than_s)
    _removed(temporary_files(RunDir.markers(settings.runs_dir)), older_than_s)
    _removed(temporary_files(RunKey.directory(settings)), older_than_s)
    for key in RunKey.all(settings):
        if _is_older(key.path, older_than_s) and key.made() is None:
            with suppress(JobBusy), key.lock():  # then a run is being made under it
                num_swept += key.free()
    return num_swept


def _temporaries(directory: RunDir) -> Iterator[Path]:
    yield from temporary_files(directory.path)
    path = directory.linked_results()
    if path is None:
        return
    results = RunResults(path.parent, directory.run_id)
    places = [results.output, *results.steps()]
    for place in places:
        yield from temporary_files(place.path)
    with suppress(CorruptJob):
        if directory.read_final() is not None:
            yield directory.path / "scratch"
            yield from (place.temporary for place in places)


def _removed(found: Iterator[Path], older_than_s: float) -> bool:
    """Remove those that are old enough; returns whether there were any."""
    left_behind = [path for path in found if _is_older(path, older_than_s)]
    for path in left_behind:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return bool(left_behind)


def _is_older(path: Path, than_s: float) -> bool:
    with suppress(FileNotFoundError):  # whoever it belonged to was still alive
        return time.time() - path.lstat().st_mtime > than_s
    return False
