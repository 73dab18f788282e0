"""Makes the job table agree with the disk, which is the truth. Safe to run at any time, by anyone.

on disk, not in the table           -> entered: job.json, the parts, final.json
a part the table has not counted    -> counted, also if its job was stopped meanwhile
final.json, and open in the table   -> ended
no final.json, and it has ended     -> entered anew: its directory was not found for a while
control.json                        -> in force: pause, priority, deadline
retry.json, and ended in the table  -> counted anew
"""

import logging
from collections.abc import Callable

import msgspec

from .control import LOCK_WAIT_S, Control, has_control, job_lock, read_control
from .durable import StorageFull, may_exist
from .errors import CorruptJob, JobBusy
from .job_dir import Final, JobDir
from .job_table import JobTable
from .model import JobSnapshot, JobSpec
from .part_counts import PartCounts, summed
from .part_file import CorruptPart, part_counts
from .results_dir import ResultsDir
from .retrying import was_retried
from .sealed_json import DAMAGED, decode_sealed
from .settings import Settings
from .unsettled import end_change, is_unsettled, unsettled

HELD_UP = (OSError, StorageFull, JobBusy)  # trouble of one job that may pass by itself

logger = logging.getLogger(__name__)


class _ManifestPart(msgspec.Struct, frozen=True):
    rows: int
    failed: int
    attempt: int


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class _Counts(msgspec.Struct, frozen=True):
    unparsed: int = 0


class _Manifest(msgspec.Struct, frozen=True):
    """What of `_manifest.json` the table counts."""

    usage: _Usage
    parts: list[_ManifestPart]
    errors: dict[str, int] = {}
    counts: _Counts = _Counts()


def rebuild_all(
    settings: Settings,
    table: JobTable,
    *,
    on_job: Callable[[], object] = lambda: None,
    on_held_up: Callable[[str], object] = lambda job_id: None,
) -> list[str]:
    """Reconcile every job on disk; returns those for which the table had something to learn.

    Jobs that wait for work come first. `on_job` is called before each one, as all of them may take
    a while. A job that cannot be read is logged and passed over: it must not keep the others away.
    `on_held_up` is told of those that may be read later.
    """
    changed: list[str] = []
    for job_dir in sorted(JobDir.all(settings.jobs_dir), key=lambda each: may_exist(each.final)):
        on_job()
        try:
            if _reconcile(job_dir, table, lock_wait_s=0.0):
                changed.append(job_dir.job_id)
        except CorruptJob as error:
            logger.error("%s; the job is passed over", error)
        except HELD_UP as error:
            logger.error("%s cannot be restored yet: %s", job_dir.job_id, error)
            on_held_up(job_dir.job_id)
    return changed


def unlisted(settings: Settings, table: JobTable) -> list[str]:
    """Find the jobs on disk of which the table may not know all, as Redis was away meanwhile.

    They were made then, or changed.
    """
    if not settings.jobs_dir.is_dir():
        return []
    names = table.unlisted(sorted(path.name for path in settings.jobs_dir.iterdir()))
    made = [name for name in names if may_exist(settings.jobs_dir / name / "job.json")]
    return sorted({*made, *unsettled(settings.jobs_dir)})


def reconcile(
    settings: Settings, table: JobTable, job_id: str, *, lock_wait_s: float = LOCK_WAIT_S
) -> bool:
    """Reconcile one job; returns whether the table had something to learn.

    Raises:
        UnknownJob: there is no such job on disk.
        CorruptJob: it is damaged.
        JobBusy: another process has been changing it for `lock_wait_s`.
        StorageFull: what was found cannot be made to last.
        OSError: the disk does not do its work just now.
    """
    return _reconcile(JobDir(settings.jobs_dir, job_id), table, lock_wait_s=lock_wait_s)


def _reconcile(job_dir: JobDir, table: JobTable, *, lock_wait_s: float) -> bool:
    snapshot = table.snapshot(job_dir.job_id)
    if snapshot is not None and snapshot.state.is_final:
        if may_exist(job_dir.final) or not job_dir.spec.exists():
            table.index(snapshot)
            if was_retried(job_dir):
                return _recount(job_dir, table, lock_wait_s=lock_wait_s)
            return _count_late(job_dir, snapshot, table)
        logger.error("%s has not ended, although the table says so; it goes on", job_dir.job_id)
        table.forget(snapshot)  # an end is on disk before the table knows it, so this was none
        snapshot = None
    if snapshot is not None:
        table.index(snapshot)
    spec = job_dir.read_spec()
    final = job_dir.durable_final()
    if snapshot is not None and final is None and (has_control(job_dir) or is_unsettled(job_dir)):
        _settle(job_dir, spec, table, lock_wait_s=lock_wait_s)
    if snapshot is not None and final is None:
        num_parts = len(ResultsDir.of(spec).parts())
        if num_parts <= snapshot.shards_landed:
            return False
    control = read_control(job_dir, spec)
    _rebuild(spec, final, _counts(spec, final), control, table)
    if final is not None and was_retried(job_dir):
        _recount(job_dir, table, lock_wait_s=lock_wait_s)
    return True


def _recount(job_dir: JobDir, table: JobTable, *, lock_wait_s: float) -> bool:
    """Count a job anew of which a retry has replaced parts: the table may know older ones."""
    before = table.snapshot(job_dir.job_id)
    with job_lock(job_dir, wait_s=lock_wait_s):
        spec, final = job_dir.read_spec(), job_dir.durable_final()
        if final is None:
            return False
        landed = _counts(spec, final)
        totals = summed(landed.values())
        table.amend(spec.job_id, final.state, totals, list(landed), at_ms=final.at_ms)
    return table.snapshot(spec.job_id) != before


def _count_late(job_dir: JobDir, job: JobSnapshot, table: JobTable) -> bool:
    """Count what landed while a job was stopped, and whoever linked it did not come to commit."""
    if job.shards_landed == job.num_shards or not job_dir.spec.exists():
        return False
    try:
        spec = job_dir.read_spec()
    except CorruptJob as error:  # the end stands all the same: whoever cancels need not read it
        logger.error("%s; what landed late is not counted", error)
        return False
    if len(ResultsDir.of(spec).parts()) <= job.shards_landed:
        return False
    return table.rebuild(spec, _counts(spec, None), None) > 0


def _settle(job_dir: JobDir, spec: JobSpec, table: JobTable, *, lock_wait_s: float) -> None:
    """Tell a table that was rolled back what was changed about a job since."""
    with job_lock(job_dir, wait_s=lock_wait_s):
        table.settle(spec.job_id, read_control(job_dir, spec))
        end_change(job_dir)


def _rebuild(
    spec: JobSpec,
    final: Final | None,
    landed: dict[int, PartCounts],
    control: Control,
    table: JobTable,
) -> None:
    if final is None:
        table.rebuild(spec, landed, None, control=control)
        return
    table.rebuild(
        spec,
        landed,
        final.state,
        started_at_ms=final.started_at_ms,
        final_at_ms=final.at_ms,
        error=final.error,
        control=control,
    )


def _counts(spec: JobSpec, final: Final | None) -> dict[int, PartCounts]:
    """Read what the landed parts add; one that cannot be read does not count as landed."""
    counts = _counts_by_manifest(spec) if final is not None else None
    if counts is not None:
        return counts
    counts = {}
    for index, path in ResultsDir.of(spec).durable_parts().items():
        try:
            counts[index] = part_counts(path)
        except (CorruptPart, OSError) as error:
            logger.error("%s; its shard counts as not landed", error)
    return counts


def _counts_by_manifest(spec: JobSpec) -> dict[int, PartCounts] | None:
    """Read the counts of a complete job from its manifest, without opening any of its parts.

    It tells some sums, as of tokens and errors, of all parts together; only these matter here, so
    the first part has them all. None when there is no such manifest.
    """
    path = ResultsDir.of(spec).manifest
    try:
        manifest = decode_sealed(path, path.read_bytes(), _Manifest)
    except (OSError, *DAMAGED):
        return None
    if len(manifest.parts) != spec.num_shards:
        return None
    usage = manifest.usage
    tokens = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    counts = {
        index: PartCounts(part.rows, part.failed, 0, 0, 0)
        for index, part in enumerate(manifest.parts)
    }
    first, unparsed = manifest.parts[0], manifest.counts.unparsed
    counts[0] = PartCounts(
        first.rows, first.failed, *tokens, errors=manifest.errors, unparsed=unparsed
    )
    return counts
