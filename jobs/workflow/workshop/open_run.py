"""A run as a bench knows it: what it is told to do, and the rows that stand. Writes nothing."""

from dataclasses import dataclass
from typing import Self

from ...durable import may_exist
from ...errors import UnknownJob
from ...part_file import CorruptPart
from ..input_rows import input_rows
from ..plan import INPUT, Plan
from ..replanning import plan_of
from ..row import Row
from ..runs.run_dir import RunDir
from ..runs.run_results import RunResults
from ..runs.run_spec import RunSpec
from .shard_file import read_shard


class Unreadable(Exception):
    """A shard of a step is damaged or gone."""

    def __init__(self, step_id: str, shard: int, error: CorruptPart) -> None:
        super().__init__(str(error))
        self.step_id = step_id
        self.shard = shard


@dataclass(frozen=True, slots=True)
class OpenRun:
    """What is kept of a run between its pieces."""

    directory: RunDir
    spec: RunSpec
    plan: Plan
    results: RunResults

    @classmethod
    def of(cls, directory: RunDir) -> Self:
        """Open a run.

        Raises:
            UnknownJob: there is no such run.
            CorruptJob: it cannot be read.
        """
        spec = directory.read()
        return cls(directory, spec, plan_of(spec), RunResults.of(spec))

    def rows(self, source: str, shard: int) -> list[Row]:
        """Read a shard of a step, or of an input.

        Raises:
            Unreadable: that of a step is damaged or gone.
            CorruptInput: that of an input is.
        """
        if source.startswith(INPUT):
            return input_rows(self.directory, self.spec, source.removeprefix(INPUT), shard)
        path = self.results.step(source).part(shard)
        try:
            return read_shard(path, self.plan.step(source).columns)
        except CorruptPart as error:
            raise Unreadable(source, shard, error) from error

    def check_there(self) -> None:
        """See to it that nothing is written of a run that somebody has removed meanwhile.

        Raises:
            UnknownJob: it is gone.
        """
        if not may_exist(self.directory.spec):
            raise UnknownJob(self.spec.run_id)
