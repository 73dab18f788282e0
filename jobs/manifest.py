"""The end of a job whose shards have all landed: `_manifest.json`, then `_SUCCESS`, then its state.

Every step may be repeated, by several processes at once.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from .durable import replace_file
from .ending import end
from .errors import UnknownJob
from .job_dir import JobDir
from .job_table import JobTable
from .landing import CorruptPart, part_counts
from .model import JobSpec, JobState
from .part_counts import PartCounts
from .results_dir import ResultsDir
from .row_schema import row_schema
from .settings import Settings

MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Part:
    """A landed part as the manifest names it."""

    path: Path
    counts: PartCounts


def finalize(settings: Settings, table: JobTable, job_id: str) -> JobState | None:
    """Complete a job whose shards have all landed; returns the state in which it ended.

    None means that it is not ready: some shard has not landed yet. A job that has ended before
    keeps its end. One whose landed parts cannot be read any more has failed.

    Raises:
        UnknownJob: there is no such job.
        StorageFull: the manifest could not be written; try again later.
    """
    job_dir = JobDir(settings.jobs_dir, job_id)
    spec = job_dir.read_spec()
    final = job_dir.read_final()
    if final is not None:
        table.finish(job_id, final.state, final.error, at_ms=final.at_ms)
        return final.state
    snapshot = table.snapshot(job_id)
    if snapshot is None:
        raise UnknownJob(job_id)
    results = ResultsDir.of(spec)
    paths = results.parts()
    missing = [index for index in range(spec.num_shards) if index not in paths]
    if missing and snapshot.state is not JobState.LANDING:
        return None
    try:
        if missing:
            raise CorruptPart(f"{results.part(missing[0])} had landed and is gone")
        parts = [_Part(paths[i], part_counts(paths[i])) for i in range(spec.num_shards)]
    except CorruptPart as error:
        return end(settings, table, job_id, JobState.FAILED, str(error)).state
    if snapshot.shards_landed < spec.num_shards:  # linked, and not committed yet
        table.rebuild(spec, {index: part.counts for index, part in enumerate(parts)}, None)
    has_failures = any(part.counts.failed for part in parts)
    state = JobState.COMPLETED_WITH_ERRORS if has_failures else JobState.COMPLETED
    manifest = _manifest(spec, state, parts)
    replace_file(results.manifest, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    replace_file(results.success, b"")
    results.remove_temporary()
    return end(settings, table, job_id, state).state


def _manifest(spec: JobSpec, state: JobState, parts: list[_Part]) -> dict[str, Any]:
    counts = [part.counts for part in parts]
    failed = sum(each.failed for each in counts)
    return {
        "version": MANIFEST_VERSION,
        "job_id": spec.job_id,
        "state": state.value,
        "counts": {
            "total": spec.num_rows,
            "succeeded": spec.num_rows - failed,
            "failed": failed,
            "rejected": spec.num_rejected,
        },
        "usage": {
            "prompt_tokens": sum(each.prompt_tokens for each in counts),
            "completion_tokens": sum(each.completion_tokens for each in counts),
            "cached_tokens": sum(each.cached_tokens for each in counts),
        },
        "spec": asdict(spec),
        "schema": [
            {"name": column.name, "type": str(column.type), "nullable": column.nullable}
            for column in row_schema(spec)
        ],
        "parts": [
            {
                "path": f"rows/{part.path.name}",
                "rows": part.counts.rows,
                "failed": part.counts.failed,
                "bytes": part.path.stat().st_size,
                "attempt": part.counts.attempt,
            }
            for part in parts
        ],
    }
