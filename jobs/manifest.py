"""The end of a job whose shards have all landed: manifest, `_SUCCESS`, copies of both, its state.

Every step may be repeated, by several processes at once.
"""

import logging

from .control import job_lock
from .durable import StorageFull
from .ending import end
from .errors import CorruptJob, UnknownJob
from .found_part import set_aside
from .job_dir import JobDir
from .job_table import JobTable
from .joining import join
from .manifest_file import read_parts, write_manifest
from .model import JobSpec, JobState
from .object_store import StoreUnavailable
from .part_counts import PartCounts, summed
from .part_file import CorruptPart
from .publishing import publish, store_of
from .reconciler import reconcile
from .results_dir import ResultsDir
from .sealed_input import CorruptInput
from .settings import Settings

_HELD_UP_BY: dict[type[Exception], str] = {
    StorageFull: "storage_full",
    StoreUnavailable: "store_unavailable",
    OSError: "storage_unavailable",
    CorruptInput: "corrupt_input",
    CorruptJob: "corrupt_job",
    CorruptPart: "corrupt_part",
}

logger = logging.getLogger(__name__)


def finalize(settings: Settings, table: JobTable, job_id: str) -> JobState | None:
    """Complete a job whose shards have all landed; returns the state in which it ended.

    None means that it is not ready: some shard has not landed yet, or its part is damaged, so that
    it runs again, or another process is copying the rows. A job that has ended keeps its end.

    Raises:
        UnknownJob: there is no such job.
        StorageFull: there is no room for the manifest; try again later.
        OSError: the disk has another trouble; likewise.
        CorruptInput, CorruptJob, CorruptPart: files of the job, or of the one that it retries, are
            damaged; likewise, for somebody may mend them.
        StoreUnavailable: the rows cannot be copied to where they are wanted; try again later.
    """
    try:
        return _finalize(settings, table, job_id)
    except tuple(_HELD_UP_BY) as error:
        code = next(code for kind, code in _HELD_UP_BY.items() if isinstance(error, kind))
        table.note(job_id, f"{code}: {error}")
        raise


def _finalize(settings: Settings, table: JobTable, job_id: str) -> JobState | None:
    job_dir = JobDir(settings.jobs_dir, job_id)
    spec = job_dir.read_spec()
    final = job_dir.read_final()
    if final is not None:
        reconcile(settings, table, job_id)  # the table may lack some of its parts, too
        return final.state
    snapshot = table.snapshot(job_id)
    if snapshot is None:
        raise UnknownJob(job_id)
    results = ResultsDir.of(spec)
    found = results.durable_parts()
    if snapshot.state is not JobState.LANDING and len(found) < spec.num_shards:
        return None
    store = store_of(settings, spec)
    if store is not None:
        store.check()  # before every part is read, perhaps again
    parts, damaged = read_parts(spec)
    if damaged:
        _run_again(table, spec, results, damaged, [part.counts for part in parts.values()])
        return None
    if snapshot.shards_landed < spec.num_shards:  # linked, and not committed yet
        table.rebuild(spec, {index: part.counts for index, part in parts.items()}, None)
    has_failures = any(part.counts.failed for part in parts.values())
    state = JobState.COMPLETED_WITH_ERRORS if has_failures else JobState.COMPLETED
    with job_lock(job_dir):  # or who cancels the job finds `_SUCCESS` too late
        final = job_dir.read_final()
        if final is None:
            write_manifest(spec, state, parts)
    if final is not None:
        reconcile(settings, table, job_id)
        return final.state
    if not publish(settings, spec, parts):
        return None
    results.remove_temporary()
    if spec.retry_of is not None and not join(settings, table, spec, state):
        return None
    return end(settings, table, job_id, state).state


def _run_again(
    table: JobTable,
    spec: JobSpec,
    results: ResultsDir,
    damaged: dict[int, CorruptPart],
    intact: list[PartCounts],
) -> None:
    """Set damaged parts aside and hand their shards out again: the input is still there."""
    for index, error in damaged.items():
        logger.error("%s; its shard runs again", error)
        set_aside(results, index)
    table.reopen(spec.job_id, list(damaged), summed(intact))
    table.note(spec.job_id, f"{next(iter(damaged.values()))}; its rows run again")
