"""`_manifest.json` of a run's output and `_SUCCESS`, as every job has them. Knows no step."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...durable import replace_file
from ...model import JobState
from ...part_file import CorruptPart
from ...publishing import FileFacts
from ...seal import ChecksumMismatch, check_seal
from ...sealed_json import encode_sealed
from ..carried_types import carried_types
from ..plan import Plan
from ..typed_columns import PARSED, typed_columns
from ..workshop.shard_file import read_report
from .report import RunReport
from .run_results import RunResults
from .run_spec import RunSpec

MANIFEST_VERSION = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutputPart:
    """What the manifest says of a part."""

    path: str
    num_rows: int
    facts: FileFacts


@dataclass(frozen=True, slots=True)
class LandedOutput:
    """The parts that are as they were written, and the numbers of those that are not."""

    parts: Sequence[OutputPart]
    damaged: Sequence[int]


def read_output(spec: RunSpec, num_parts: int) -> LandedOutput:
    """Read the whole output again, once: nothing is called complete on hearsay.

    The names of the parts last then as their bytes do.

    Raises:
        OSError: the disk does not do its work; the output may be as good as ever.
    """
    output = RunResults.of(spec).output
    output.durable_parts()
    parts: list[OutputPart] = []
    damaged: list[int] = []
    for index in range(num_parts):
        path = output.part(index)
        try:
            facts = _facts(path)
            name = f"{output.rows.name}/{path.name}"
            parts.append(OutputPart(name, read_report(path).rows_out, facts))
        except (CorruptPart, ChecksumMismatch) as error:
            logger.error("%s; it lands again", error)
            damaged.append(index)
    return LandedOutput(parts, damaged)


def write_run_manifest(
    spec: RunSpec, plan: Plan, state: JobState, report: RunReport, parts: Sequence[OutputPart]
) -> dict[str, FileFacts]:
    """Write what the output of a complete run is, then `_SUCCESS`; returns its parts by name.

    Raises:
        StorageFull: there is no room.
    """
    output = RunResults.of(spec).output
    manifest = {
        "version": MANIFEST_VERSION,
        "run_id": spec.run_id,
        "state": state.value,
        "counts": {"input": spec.num_rows, "output": report.output_rows},
        "steps": msgspec.to_builtins(report.steps),
        "spec": msgspec.to_builtins(spec),
        "schema": [{"name": name, "type": kind} for name, kind in _columns(plan).items()],
        "arrow_schema": carried_types(spec, plan),  # what columns were before they became JSON
        "parts": [
            {
                "path": part.path,
                "rows": part.num_rows,
                "bytes": part.facts.num_bytes,
                "sha256": part.facts.sha256,
            }
            for part in parts
        ],
    }
    replace_file(output.manifest, encode_sealed(manifest))
    replace_file(output.success, b"")
    return {part.path: part.facts for part in parts}


def _columns(plan: Plan) -> dict[str, str]:
    typed = {name + PARSED: str(kind) for name, kind in typed_columns(plan).items()}
    return {**plan.output_columns, **typed}


def _facts(path: Path) -> FileFacts:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptPart(f"{path} had landed and is gone") from error
    if not check_seal(path, data):
        raise CorruptPart(f"{path} has lost its seal")
    return FileFacts(hashlib.sha256(data).hexdigest(), len(data))
