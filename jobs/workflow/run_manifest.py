"""`_manifest.json` of a run's output and `_SUCCESS`, as every job has them. Knows no step."""

import hashlib
import logging
from typing import Any

import msgspec

from ..durable import replace_file
from ..model import JobState
from ..part_file import CorruptPart, read_part
from ..publishing import FileFacts
from ..sealed_json import encode_sealed
from .plan import Plan
from .report import RunReport
from .run_dir import RunResults, RunSpec
from .shard_file import read_report

MANIFEST_VERSION = 1

logger = logging.getLogger(__name__)


def damaged_parts(spec: RunSpec, num_parts: int) -> list[int]:
    """Read the whole output again: nothing is called complete on hearsay."""
    damaged: list[int] = []
    output = RunResults.of(spec).output
    for index in range(num_parts):
        try:
            read_part(output.part(index))
        except CorruptPart as error:
            logger.error("%s; it lands again", error)
            damaged.append(index)
    return damaged


def write_run_manifest(
    spec: RunSpec, plan: Plan, state: JobState, report: RunReport
) -> dict[str, FileFacts]:
    """Write what the output of a complete run is, then `_SUCCESS`; returns its parts by name.

    Raises:
        StorageFull: there is no room.
    """
    output = RunResults.of(spec).output
    parts: list[dict[str, Any]] = []
    for path in output.durable_parts().values():
        data = path.read_bytes()
        parts.append(
            {
                "path": f"{output.rows.name}/{path.name}",
                "rows": read_report(path).rows_out,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    manifest = {
        "version": MANIFEST_VERSION,
        "run_id": spec.run_id,
        "state": state.value,
        "counts": {"input": spec.num_rows, "output": report.output_rows},
        "steps": msgspec.to_builtins(report.steps),
        "spec": msgspec.to_builtins(spec),
        "schema": [{"name": name, "type": kind} for name, kind in plan.output_columns.items()],
        "parts": parts,
    }
    replace_file(output.manifest, encode_sealed(manifest))
    replace_file(output.success, b"")
    return {part["path"]: FileFacts(part["sha256"], part["bytes"]) for part in parts}
