"""Which suspects run now: one group at a time over all shards. Knows runs of shards, no engine.

    nobody is suspected        all rows run together
    a group's turn             its rows run beside all others
    a row's turn to be alone   nothing new is begun; when the engine is empty the row runs, and
                               until it has ended nothing else does

Suspects wait until the worker says that this is the place to try them (see `quarantine_lane`).
"""

from collections.abc import Collection, Iterable

from ..engine.outputs import Request
from .shard_run import ShardRun


class Quarantine:
    """Decides when suspects may go to the engine.

    Attributes:
        is_open: whether they may at all.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._trial: ShardRun | None = None
        self._is_alone = False

    def must_wait(self, runs: Iterable[ShardRun]) -> bool:
        """Whether rows that nobody suspects must wait, because one runs alone or is about to."""
        if self._is_under_way:
            return self._is_alone
        return self.is_open and any(run.suspects.wants_alone for run in runs)

    def admit(
        self, runs: Collection[ShardRun], *, is_engine_empty: bool
    ) -> tuple[ShardRun, list[Request]] | None:
        """Begin the next trial, if there is one: return its shard, and what goes to the engine."""
        if self._is_under_way or not self.is_open:
            return None
        suspected = [run for run in runs if run.suspects.group]
        suspected.sort(key=lambda run: not run.suspects.wants_alone)
        if not suspected:
            return None
        run = suspected[0]
        is_alone = run.suspects.wants_alone
        if is_alone and not is_engine_empty:
            return None
        self._trial, self._is_alone = run, is_alone
        return run, run.begin_trial(is_alone=is_alone)

    def drop(self, run: ShardRun) -> None:
        """Forget a run that was taken back."""
        if self._trial is run:
            self._trial = None

    @property
    def _is_under_way(self) -> bool:
        return self._trial is not None and self._trial.suspects.is_on_trial
