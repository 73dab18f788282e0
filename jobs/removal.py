"""Removes jobs that have ended: input, rows and all. What they have used stays on record.

    noted -> job.json, so that it is a job no more -> its rows -> the job table

Done again after a crash, it goes on where it was; what is left without its `job.json` is swept.
"""

import logging
from contextlib import suppress

from .control import job_lock
from .errors import CorruptJob, InvalidJob, JobBusy, UnknownJob
from .job_dir import JobDir
from .job_table import JobTable
from .model import JobSnapshot, JobState
from .removed_usage import note
from .results_dir import ResultsDir
from .retrying import is_being_retried, retries_of
from .settings import Settings
from .workflow.orders.order_names import run_of
from .workflow.runs.run_dir import RunDir

logger = logging.getLogger(__name__)


def remove(settings: Settings, table: JobTable, job: JobSnapshot) -> None:
    """Remove a job that has ended from disk and table, and its retries, whose rows lie in its own.

    Copies in an object store stay.

    Raises:
        InvalidJob: it has not ended, some of its rows are run again, or the run that it serves
            has not ended.
        CorruptJob: whether that run has ended cannot be read.
        JobBusy: another process is changing it, or a retry of it, just now.
        StorageFull: what it had used cannot be noted; it stays.
    """
    job_dir = JobDir(settings.jobs_dir, job.job_id)
    _require_ended(job)
    _require_unread(settings, job.job_id)
    if job_dir.path.is_dir():
        try:
            with job_lock(job_dir):
                _remove_held(settings, table, job_dir, job)
        except FileNotFoundError:  # nothing is left to be locked: somebody else was quicker
            if job_dir.path.is_dir():
                raise
    table.forget(job)
    logger.info("%s was removed", job.job_id)


def _remove_held(settings: Settings, table: JobTable, job_dir: JobDir, job: JobSnapshot) -> None:
    """Remove a job's files while its lock is held."""
    if is_being_retried(settings, job_dir):
        raise InvalidJob("job_id", f"a retry of {job.job_id} runs: cancel that first")
    job = table.snapshot(job.job_id) or job  # a retry may have joined it since
    _require_ended(job)
    _remove_retries(settings, table, job_dir)
    is_counted_elsewhere = job.retry_of is not None and job.state is JobState.COMPLETED
    if job_dir.spec.exists() and not is_counted_elsewhere:
        note(settings, table, job)  # or it is counted where its rows are now
    path = job_dir.linked_results()
    job_dir.spec.unlink(missing_ok=True)
    if path is not None and path.name == job.job_id:
        ResultsDir(path).remove()
    job_dir.remove()


def _remove_retries(settings: Settings, table: JobTable, job_dir: JobDir) -> None:
    names = retries_of(job_dir)
    for name, made in zip(names, table.snapshots(names), strict=True):
        if made is not None:
            remove(settings, table, made)
            continue
        retry_dir = JobDir(settings.jobs_dir, name)
        with suppress(UnknownJob, CorruptJob):
            retry_dir.read_spec()
            raise JobBusy(name)  # it is not in the table yet, so nobody knows what it has used
        retry_dir.remove()


def _require_ended(job: JobSnapshot) -> None:
    if not job.state.is_final:
        raise InvalidJob("job_id", f"{job.job_id} has not ended: cancel it first")


def _require_unread(settings: Settings, job_id: str) -> None:
    """Keep what a workflow's run may still read.

    Raises:
        InvalidJob: the job serves a run that has not ended.
        CorruptJob: whether it has cannot be read.
    """
    run_id = run_of(job_id)
    if run_id is None:
        return
    with suppress(UnknownJob):  # nobody is left who could read it
        run = RunDir(settings.runs_dir, run_id)
        run.read()
        if run.read_final() is None:
            raise InvalidJob("job_id", f"{job_id} serves {run_id}, which has not ended")
