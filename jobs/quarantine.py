"""Which suspects run now: one group at a time over all shards. Knows runs of shards, no engine.

    nobody is suspected        all rows run together
    a fresh group's turn       nothing new is begun; when the engine is empty the group runs, and
                               until it has ended nothing else does
    a narrow group's turn      its rows run beside all others, when the worker says that it may be
    a cornered row's turn      as a fresh group, when the worker says that it may be

`suspects` tells these kinds, `quarantine_lane` when narrow groups and cornered rows may be tried.
"""

from collections.abc import Collection, Iterable

from ..engine.outputs import Request
from .shard_run import ShardRun


class Quarantine:
    """Decides when suspects may go to the engine.

    Attributes:
        is_open: whether narrow groups and cornered rows may.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._trial: ShardRun | None = None

    def must_wait(self, runs: Iterable[ShardRun]) -> bool:
        """Whether rows that nobody suspects must wait: suspects are to be by themselves."""
        if self._trial is not None and self._trial.suspects.is_on_trial:
            return self._trial.suspects.is_alone
        return any(self._wants_alone(run) for run in runs)

    def admit(
        self, runs: Collection[ShardRun], *, is_engine_empty: bool
    ) -> tuple[ShardRun, list[Request]] | None:
        """Begin the next trial, if there is one: return its shard, and what goes to the engine."""
        if self._trial is not None and self._trial.suspects.is_on_trial:
            return None
        alone = [run for run in runs if self._wants_alone(run)]
        alone.sort(key=lambda run: not run.suspects.has_fresh)
        if alone:
            return self._begin(alone[0]) if is_engine_empty else None
        narrow = (run for run in runs if run.suspects.num_narrow and self.is_open)
        run = next(narrow, None)
        return self._begin(run) if run is not None else None

    def drop(self, run: ShardRun) -> None:
        """Forget a run that was taken back."""
        if self._trial is run:
            self._trial = None

    def _wants_alone(self, run: ShardRun) -> bool:
        return run.suspects.has_fresh or (self.is_open and run.suspects.wants_alone)

    def _begin(self, run: ShardRun) -> tuple[ShardRun, list[Request]]:
        self._trial = run
        return run, run.begin_trial()
