"""How much longer rows will get, and how full the cache will be at its fullest. Knows only numbers.

A row's length is known when it ends, yet its room must be judged when it starts. Reserving
`max_tokens` wastes most of the cache and trusting to luck preempts; so the finished rows of the
past foretell the next ones, and rows are admitted while the *peak* to come still fits.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

_MEMORY = 0.98  # weight of the past: about the last fifty rows count
_COLD_START = 0.5  # before any row has finished, expect this part of what is allowed
_ENOUGH_ROWS = 4.0  # that have finished, for a job to be foretold from its own
_MAX_JOBS = 256  # remembered; the one that was heard of least recently is forgotten


class OutputForecast:
    """Expects the outputs to come to be like those that have finished."""

    def __init__(self) -> None:
        self.weight = 0.0  # of what it has learned, in rows
        self._mean = 0.0
        self._mean_square = 0.0

    def observe(self, num_generated: int) -> None:
        """Learn from a finished row."""
        self.weight = _MEMORY * self.weight + 1.0
        step = 1.0 / self.weight
        self._mean += step * (num_generated - self._mean)
        self._mean_square += step * (num_generated**2 - self._mean_square)

    def remaining(self, num_generated: int, max_more: int) -> int:
        """Return how many more tokens to expect, at most `max_more` and at least one.

        One standard deviation above the mean; a row that has outlived it is given half of what
        it has generated so far.
        """
        if not self.weight:
            expected = _COLD_START * (num_generated + max_more) - num_generated
        else:
            spread = max(0.0, self._mean_square - self._mean**2) ** 0.5
            expected = self._mean + spread - num_generated
        outlived = num_generated * 0.5
        return max(1, min(max_more, round(max(expected, outlived))))


class JobForecasts:
    """A forecast for each job, and one of all rows for jobs that have not shown much yet."""

    def __init__(self) -> None:
        self._of_all = OutputForecast()
        self._of_job: OrderedDict[str, OutputForecast] = OrderedDict()

    def observe(self, job: str, num_generated: int) -> None:
        """Learn from a finished row of `job`."""
        self._of_all.observe(num_generated)
        forecast = self._of_job.setdefault(job, OutputForecast())
        forecast.observe(num_generated)
        self._of_job.move_to_end(job)
        if len(self._of_job) > _MAX_JOBS:
            self._of_job.popitem(last=False)

    def of(self, job: str) -> OutputForecast:
        """Return what foretells the rows of `job` best."""
        own = self._of_job.get(job)
        return own if own is not None and own.weight >= _ENOUGH_ROWS else self._of_all


def peak_num_tokens(lengths: Sequence[int], remaining: Sequence[int]) -> int:
    """Return the most tokens that rows hold at any one time, if row i ends `remaining[i]` from now.

    Sorted by time left, the longest first, the i-th row ends when rows 0..i are all that is left:
    the total then is their lengths plus i + 1 times what each has gained (LightLLM's rule).
    """
    if not lengths:
        return 0
    left = np.asarray(remaining)
    order = np.argsort(-left, kind="stable")
    held = np.cumsum(np.asarray(lengths)[order])
    return int((held + left[order] * np.arange(1, len(order) + 1)).max())
