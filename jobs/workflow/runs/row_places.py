"""In which shards of a run's steps a row lies. Reads ids, no values.

Behind an input the row's own number tells, for in a region descendants stay in the shard of their
ancestors. A step that gathers has put them anywhere: its ids are searched.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import InvalidJob
from ...sealed_input import CorruptInput
from ..plan import INPUT, Plan, PlannedStep
from .run_dir import RunDir
from .run_results import RunResults
from .run_spec import RunSpec

MAX_PARTS_SEARCHED = 50_000  # of one step that gathers: some ten seconds


class RowPlaces:
    """Finds rows of one run; what was searched once is remembered."""

    def __init__(self, directory: RunDir, spec: RunSpec, plan: Plan) -> None:
        self._directory = directory
        self._spec = spec
        self._plan = plan
        self._results = RunResults.of(spec)
        self._known: dict[tuple[str, str], list[int]] = {}  # (where a region opens, row) -> shards

    def shards(self, step: PlannedStep, lineage: Sequence[str]) -> list[int]:
        """Name the shards of a step that may hold a row or its ancestors, the row named last.

        Raises:
            InvalidJob: they lie behind a step that has gathered too many parts to be searched.
        """
        opening = _opening(self._plan, step)
        key = opening, lineage[-1]
        if key not in self._known:
            if opening.startswith(INPUT):
                found = self._of_input(opening.removeprefix(INPUT), lineage[0])
            else:
                found = self._of_gathered(opening, lineage)
            self._known[key] = list(found)
        return self._known[key]

    def _of_input(self, name: str, root: str) -> Iterator[int]:
        """Find the shard of an input's row by its number; rejected lines have numbers, too."""
        number = root.removeprefix(f"{name}:") if len(self._spec.inputs) > 1 else root
        if not (number.isascii() and number.isdigit()):
            return
        with suppress(CorruptInput), self._directory.open_input(name) as sealed:
            shards = range(sealed.num_shards)
            shard = bisect_left(shards, int(number), key=lambda each: sealed.row_indexes(each)[-1])
            if shard in shards:
                yield shard

    def _of_gathered(self, step_id: str, lineage: Sequence[str]) -> Iterator[int]:
        parts = self._results.step(step_id).parts()
        if len(parts) > MAX_PARTS_SEARCHED:
            raise InvalidJob(
                "row_id",
                f"row_id {lineage[-1][:80]!r} lies behind step {step_id}, whose rows lie in "
                f"{len(parts)} parts: more than the {MAX_PARTS_SEARCHED} that are searched; look "
                "for it in the Parquet files of the steps",
            )
        wanted = pa.array(lineage)
        for shard, path in parts.items():
            if _has_any(path, wanted):
                yield shard


def _opening(plan: Plan, step: PlannedStep) -> str:
    """Name the input, or the step that gathers, with which the region of a step begins."""
    while step.kind != "gather":
        source = step.sources[0]
        if source.startswith(INPUT):
            return source
        step = plan.step(source)
    return step.id


def _has_any(path: Path, wanted: pa.Array) -> bool:
    with suppress(OSError, pa.ArrowException):  # damaged: whoever reads its rows is told
        with pq.ParquetFile(path, page_checksum_verification=True) as part:
            ids = part.read(columns=["row_id"]).column("row_id")
        return any(ids.index(each).as_py() >= 0 for each in wanted)
    return False
