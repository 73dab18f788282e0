"""Where the rows of a run land, and what is noted beside them. Knows files, no step's meaning.

<out>/<run_id>/
    rows/                       the output, with _manifest.json and _SUCCESS as for any job
    steps/<step>/rows/          the rows of every step, shard by shard
    steps/<step>/gathered.json  into how many shards a step that waits for all rows has put them
    asks/<job_id>/rows/         what models answered, as the jobs of the run landed it
"""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...durable import replace_file
from ...errors import CorruptJob
from ...results_dir import ResultsDir
from ...sealed_json import encode_sealed, read_sealed
from .run_spec import RunSpec


@dataclass(frozen=True, slots=True)
class _GatheredInto:
    num_shards: int


class RunResults:
    """Where the rows of one run land, its output's and those of each step."""

    def __init__(self, out: str | Path, run_id: str) -> None:
        self.path = Path(out) / run_id
        self.output = ResultsDir(self.path)
        self.asks = self.path / "asks"

    @classmethod
    def of(cls, spec: RunSpec) -> "RunResults":
        """Name the directories of a run."""
        return cls(spec.out, spec.run_id)

    def step(self, step_id: str) -> ResultsDir:
        """Name where a step's rows lie."""
        return ResultsDir(self.path / "steps" / step_id)

    def steps(self) -> list[ResultsDir]:
        """Find the directories of the steps that have any rows."""
        found = self.path / "steps"
        return [ResultsDir(path) for path in sorted(found.iterdir())] if found.is_dir() else []

    def gathered(self, step_id: str) -> int | None:
        """Tell into how many shards a step has put all rows; None while it has not."""
        with suppress(CorruptJob):  # then it gathers once more
            found = read_sealed(self._gathered(step_id), _GatheredInto)
            return None if found is None else found.num_shards
        return None

    def note_gathered(self, step_id: str, num_shards: int) -> None:
        """Note durably that a step has put all rows into so many shards."""
        replace_file(self._gathered(step_id), encode_sealed(_GatheredInto(num_shards)))

    def forget_gathered(self, step_id: str) -> None:
        """Let a step gather once more: one of its shards is damaged."""
        self._gathered(step_id).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all rows."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _gathered(self, step_id: str) -> Path:
        return self.path / "steps" / step_id / "gathered.json"
