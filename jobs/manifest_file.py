"""`_manifest.json`, what a job's rows are part by part, and `_SUCCESS` beside it. No table here."""

from dataclasses import asdict
from typing import Any

from .durable import replace_file
from .model import JobSpec, JobState
from .part_counts import summed
from .part_file import CorruptPart, PartFacts, part_facts
from .results_dir import ResultsDir
from .row_schema import row_schema
from .sealed_json import encode_sealed

MANIFEST_VERSION = 1


def write_manifest(spec: JobSpec, state: JobState, parts: dict[int, PartFacts]) -> None:
    """Write the manifest of a job that is complete, then `_SUCCESS`; older ones are replaced.

    Raises:
        StorageFull: there is no room.
    """
    results = ResultsDir.of(spec)
    replace_file(results.manifest, encode_sealed(_manifest(spec, state, parts)))
    replace_file(results.success, b"")


def read_parts(spec: JobSpec) -> tuple[dict[int, PartFacts], dict[int, CorruptPart]]:
    """Read every part again, to its last byte: nothing is called complete on hearsay."""
    results = ResultsDir.of(spec)
    parts: dict[int, PartFacts] = {}
    damaged: dict[int, CorruptPart] = {}
    for index in range(spec.num_shards):
        try:
            parts[index] = part_facts(results.part(index))
        except CorruptPart as error:
            damaged[index] = error
    return parts, damaged


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
            "unparsed": counts.unparsed,
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
