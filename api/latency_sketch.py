"""Quantiles of many durations in little memory: counts by size, each size within two per cent."""

import math
from collections import Counter

_GROWTH = math.log(1.02)  # from one size to the next


class LatencySketch:
    """Counts durations by their order of size; what is less than a millisecond counts as one."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._num = 0

    def add(self, duration_ms: float) -> None:
        """Count one."""
        self._counts[round(math.log(max(1.0, duration_ms)) / _GROWTH)] += 1
        self._num += 1

    def quantile(self, share: float) -> float | None:
        """Give the duration that so large a share does not exceed, in ms; None of nothing."""
        left = share * self._num
        for size, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return round(math.exp(size * _GROWTH), 1)
        return None
