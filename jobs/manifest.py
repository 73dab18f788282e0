"""The end of a job whose shards have all landed: `_manifest.json`, then `_SUCCESS`, then its state.

Every step may be repeated, by several processes at once.
"""

import logging
from dataclasses import asdict
from typing import Any

from .durable import replace_file
from .ending import end
from .errors import UnknownJob
from .found_part import set_aside
from .job_dir import JobDir
from .job_table import JobTable
from .model import JobSpec, JobState
from .part_counts import PartCounts, summed
from .part_file import CorruptPart, PartFacts, part_facts
from .results_dir import ResultsDir
from .row_schema import row_schema
from .sealed_json import encode_sealed
from .settings import Settings

MANIFEST_VERSION = 1

logger = logging.getLogger(__name__)


def finalize(settings: Settings, table: JobTable, job_id: str) -> JobState | None:
    """Complete a job whose shards have all landed; returns the state in which it ended.

    None means that it is not ready: some shard has not landed yet, or its part is damaged, so that
    it runs again. A job that has ended before keeps its end.

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
    if snapshot.state is not JobState.LANDING and len(results.parts()) < spec.num_shards:
        return None
    parts, damaged = _read_parts(spec, results)
    if damaged:
        _run_again(table, spec, results, damaged, [part.counts for part in parts.values()])
        return None
    if snapshot.shards_landed < spec.num_shards:  # linked, and not committed yet
        table.rebuild(spec, {index: part.counts for index, part in parts.items()}, None)
    has_failures = any(part.counts.failed for part in parts.values())
    state = JobState.COMPLETED_WITH_ERRORS if has_failures else JobState.COMPLETED
    manifest = _manifest(spec, state, parts)
    replace_file(results.manifest, encode_sealed(manifest))
    replace_file(results.success, b"")
    results.remove_temporary()
    return end(settings, table, job_id, state).state


def _read_parts(
    spec: JobSpec, results: ResultsDir
) -> tuple[dict[int, PartFacts], dict[int, CorruptPart]]:
    """Read every part again, to its last byte: nothing is called complete on hearsay."""
    parts: dict[int, PartFacts] = {}
    damaged: dict[int, CorruptPart] = {}
    for index in range(spec.num_shards):
        try:
            parts[index] = part_facts(results.part(index))
        except CorruptPart as error:
            damaged[index] = error
    return parts, damaged


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


def _manifest(spec: JobSpec, state: JobState, parts: dict[int, PartFacts]) -> dict[str, Any]:
    counts = summed(part.counts for part in parts.values())
    return {
        "version": MANIFEST_VERSION,
        "job_id": spec.job_id,
        "state": state.value,
        "counts": {
            "total": spec.num_rows,
            "succeeded": spec.num_rows - counts.failed,
            "failed": counts.failed,
            "rejected": spec.num_rejected,
        },
        "usage": {
            "prompt_tokens": counts.prompt_tokens,
            "completion_tokens": counts.completion_tokens,
            "cached_tokens": counts.cached_tokens,
        },
        "errors": counts.errors,
        "spec": asdict(spec),
        "schema": [
            {"name": column.name, "type": str(column.type), "nullable": column.nullable}
            for column in row_schema(spec)
        ],
        "parts": [
            {
                "path": f"rows/{ResultsDir.of(spec).part(index).name}",
                "rows": part.counts.rows,
                "failed": part.counts.failed,
                "bytes": part.num_bytes,
                "sha256": part.sha256,
                "attempt": part.counts.attempt,
            }
            for index, part in parts.items()
        ],
    }
