"""Removes runs that have ended: inputs, rows, and the jobs that served them.

Trials, which previews and plans are, go by themselves: nobody means to keep their rows.
"""

import logging
import time
from contextlib import suppress

from ...errors import CorruptJob, InvalidJob, JobBusy, UnknownJob
from ...job_dir import JobDir
from ...job_table import JobTable
from ...removal import remove
from ...settings import Settings
from .retrying import open_retry_of
from .run_dir import RunDir
from .run_lock import run_lock
from .run_results import RunResults

TRIAL_KEPT_S = 24 * 3600.0  # after its end
SETTLING_S = 5.0

logger = logging.getLogger(__name__)


def remove_run(settings: Settings, table: JobTable, run_id: str) -> None:
    """Remove a run that has ended. What it has used stays on record, as with any job.

    Raises:
        UnknownJob: there is no such run.
        InvalidJob: it has not ended, or not everything that served it has, or it is being retried.
        CorruptJob: it is damaged.
        JobBusy: another process is retrying it, or changing it or one of its jobs just now.
        StorageFull: what it had used cannot be noted; it stays.
    """
    directory = RunDir(settings.runs_dir, run_id)
    directory.read()
    if directory.read_final() is None or not _is_settled_soon(settings, run_id):
        raise InvalidJob("run_id", f"{run_id} has not ended: cancel it, or wait a moment")
    with run_lock(directory) as spec:  # no retry of it is begun meanwhile
        retry = open_retry_of(settings, run_id)
        if retry is not None:
            raise InvalidJob("run_id", f"{retry}, which retries it, has not ended: cancel it first")
        _remove_jobs(settings, table, run_id)
        directory.spec.unlink(missing_ok=True)  # from here on it is a run no more
    RunResults.of(spec).remove()
    directory.remove()
    table.redis.delete(table.keys.run(run_id))


def remove_old_trials(settings: Settings, table: JobTable, kept_s: float = TRIAL_KEPT_S) -> int:
    """Remove trials that ended so long ago; returns how many.

    Raises:
        StorageFull: what one had used cannot be noted; it stays, as those after it do.
    """
    num_removed = 0
    for run_id in RunDir.all(settings.runs_dir):
        try:
            if _is_old_trial(RunDir(settings.runs_dir, run_id), kept_s):
                remove_run(settings, table, run_id)
                num_removed += 1
        except UnknownJob:  # somebody was quicker
            continue
        except (CorruptJob, InvalidJob, JobBusy) as error:
            logger.warning("%s is not removed for now: %s", run_id, error)
    return num_removed


def _remove_jobs(settings: Settings, table: JobTable, run_id: str) -> None:
    """Remove the jobs that served a run."""
    names = [path.name for path in sorted(settings.jobs_dir.glob(f"{run_id}-*"))]
    for name, job in zip(names, table.snapshots(names), strict=True):
        if job is not None:
            remove(settings, table, job)
        else:
            with suppress(UnknownJob, CorruptJob):
                JobDir(settings.jobs_dir, name).remove()


def _is_old_trial(directory: RunDir, kept_s: float) -> bool:
    final = directory.read_final()
    return (
        final is not None
        and time.time() - final.at_ms / 1000 > kept_s
        and directory.read().is_preview
    )


def _is_settled_soon(settings: Settings, run_id: str) -> bool:
    """Wait a little until the advancer has put a run away that has just ended."""
    until_s = time.monotonic() + SETTLING_S
    while run_id in RunDir.unsettled(settings.runs_dir):
        if time.monotonic() > until_s:
            return False
        time.sleep(0.05)
    return True
