"""Whether there is room for one row more, to its end. Knows lengths and forecasts, moves nobody."""

from collections.abc import Sequence as Rows

from .block_pool import BlockPool
from .forecast import JobForecasts, peak_num_tokens
from .sequence import Sequence, SequenceStatus

_FILL_TARGET = 0.97  # of the cache, at the foretold peak
_MAX_PASSES = 16  # of rows that start before one that came first and does not fit
_MAX_MISFITS = 2  # rows to look past in a step: each costs the time of a forecast


class Admission:
    """Judges by what the finished rows of each job foretell about its others."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._forecasts = JobForecasts()

    def learn(self, finished: Sequence) -> None:
        """Learn from the length of a row that came to its natural end."""
        self._forecasts.observe(finished.request.job, finished.num_generated)

    def expected_output(self, sequence: Sequence) -> int:
        """Return how many more tokens a row is expected to generate."""
        max_more = sequence.max_num_tokens - sequence.num_known
        if not sequence.stop_token_ids and not sequence.request.params.stop:
            return max_more  # nothing else can end it
        forecast = self._forecasts.of(sequence.request.job)
        return forecast.remaining(sequence.num_generated, max_more)

    def fits(self, candidate: Sequence, num_cached: int, running: Rows[Sequence]) -> bool:
        """Whether the cache is expected to hold the running rows and this one to their end."""
        block_size = self._pool.block_size
        lengths = [sequence.num_known - sequence.num_cached for sequence in running]
        remaining = [self.expected_output(sequence) for sequence in running]
        num_held = (self._pool.capacity - self._pool.num_available) * block_size
        num_shared = max(0, num_held - sum(lengths))  # prefixes whose first user has gone
        lengths.append(candidate.num_known - num_cached)
        remaining.append(self.expected_output(candidate))
        room = self._pool.capacity * block_size * _FILL_TARGET - num_shared
        if sum(lengths) + sum(remaining) <= room:
            return True
        return peak_num_tokens(lengths, remaining) <= room


class Passes:
    """Counts who starts before a row that came first and does not fit, so that it is not for ever.

    A step looks past two such rows at most, and asks the first of them first.
    """

    def __init__(self) -> None:
        self._passed: Sequence | None = None  # the oldest that did not fit
        self._num_passes = 0  # rows that have started before it since
        self._num_misfits = 0  # in this step

    def begin_step(self) -> None:
        """Look past nobody yet."""
        self._num_misfits = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether nobody else may start before those that have been looked past."""
        return self._num_misfits > 0 and self._num_passes >= _MAX_PASSES

    def look_past(self, misfit: Sequence) -> bool:
        """Say whether others may start before a bulk row that does not fit.

        A preempted one is not passed: it waits for the very room that it gave.
        """
        if self._num_misfits >= _MAX_MISFITS or misfit.num_generated:
            return False
        if self._passed is None or self._passed.status is not SequenceStatus.WAITING:
            self._passed, self._num_passes = misfit, 0
        self._num_misfits += 1
        return self._num_passes < _MAX_PASSES

    def count(self) -> None:
        """Note that somebody has started."""
        self._num_passes += self._num_misfits > 0
