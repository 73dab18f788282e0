"""How a job ends: on disk first, so that a wiped Redis does not revive it, then in the table."""

import time

from .control import job_lock, read_control
from .errors import UnknownJob
from .job_dir import Final, JobDir
from .job_table import JobTable
from .model import JobSnapshot, JobState
from .reconciler import reconcile
from .results_dir import ResultsDir
from .settings import Settings


def end(
    settings: Settings,
    table: JobTable,
    job_id: str,
    state: JobState,
    error: str | None = None,
) -> Final:
    """End a job for good; the first end that reaches the disk is the one that stands.

    Raises:
        UnknownJob: there is no such job.
        StorageFull: the end could not be recorded, so the job has not ended.
    """
    job_dir = JobDir(settings.jobs_dir, job_id)
    if not job_dir.spec.exists():
        raise UnknownJob(job_id)
    final = job_dir.durable_final()
    if final is None:
        snapshot = table.snapshot(job_id)
        final = job_dir.write_final(
            Final(
                state=state,
                at_ms=time.time_ns() // 1_000_000,
                started_at_ms=snapshot.started_at_ms if snapshot else None,
                error=error,
            )
        )
    table.finish(job_id, final.state, final.error, at_ms=final.at_ms)
    tidy(job_dir)
    return final


def tidy(job_dir: JobDir) -> None:
    """Remove what a job that has ended needs no more where its rows land."""
    path = job_dir.linked_results()
    if path is not None:
        ResultsDir(path).remove_empty_temporary()


def cancel(settings: Settings, table: JobTable, job_id: str) -> JobSnapshot:
    """Cancel a job: what has landed stays, nothing more is begun. Returns the job as it is then.

    A job whose rows have all landed is left to complete; one that has ended is left as it is. One
    whose directory was removed cannot be ended on disk, and nothing is left to revive it.

    Raises:
        UnknownJob: there is no such job.
        JobBusy: another process is changing it just now, and does not come to an end.
        StorageFull: its end could not be recorded, so it goes on.
    """
    job_dir = JobDir(settings.jobs_dir, job_id)
    if not job_dir.spec.exists():
        table.finish(job_id, JobState.CANCELLED, "its directory is gone")
    else:
        with job_lock(job_dir):
            if not _is_completing(job_dir, table):
                end(settings, table, job_id, JobState.CANCELLED)
        reconcile(settings, table, job_id)  # a table that was wiped meanwhile learns of it
    snapshot = table.snapshot(job_id)
    if snapshot is None:
        raise UnknownJob(job_id)
    return snapshot


def _is_completing(job_dir: JobDir, table: JobTable) -> bool:
    """Tell whether all rows have landed, and the job has not ended; its lock must be held.

    `_SUCCESS` is believed before the table, which may have been wiped.
    """
    snapshot = table.snapshot(job_dir.job_id)
    if snapshot is not None and snapshot.state is JobState.LANDING:
        return True
    results = job_dir.linked_results()
    has_success = results is not None and ResultsDir(results).success.exists()
    return has_success and job_dir.read_final() is None


def expire(settings: Settings, table: JobTable, job_id: str) -> JobSnapshot | None:
    """End a job whose deadline has passed: what has landed stays, the rest is not run.

    Judged by Redis' clock, and by what is in force on disk: a deadline may have been put off in
    this moment. A job whose rows have all landed is left to complete. Returns the job as it is
    then, None if nobody knows it.

    Raises:
        JobBusy: another process is changing it just now.
        CorruptJob: it is damaged.
        StorageFull: its end cannot be recorded.
        OSError: the disk does not do its work just now.
    """
    job_dir = JobDir(settings.jobs_dir, job_id)
    try:
        spec = job_dir.read_spec()
    except UnknownJob:  # its directory was removed: nothing is left that could revive it
        table.finish(job_id, JobState.EXPIRED)
        return table.snapshot(job_id)
    with job_lock(job_dir, wait_s=0.0):  # whoever looks after all jobs does not wait for one
        control = read_control(job_dir, spec)
        snapshot = table.snapshot(job_id)
        is_over = control.deadline_ms is not None and control.deadline_ms <= table.now_ms()
        if not is_over:
            table.settle(job_id, control)
        elif snapshot is not None and snapshot.state.is_alive:
            end(settings, table, job_id, JobState.EXPIRED)
            reconcile(settings, table, job_id)  # counts what is linked, and not committed yet
    return table.snapshot(job_id)
