"""How sure the time left is, from how evenly rows have landed so far. Knows numbers only.

Between two looks, `rows` landed in `seconds`. With s the spread of what such an interval took
beyond its share, and m such intervals still to come, the time left spreads by

    s * sqrt(m + m^2 / k)        m intervals to come, and a rate that k intervals have told
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_MOST_INTERVALS = 60
_FEWEST_INTERVALS = 4  # before which a spread says nothing
_P90 = 1.2816  # standard deviations above the middle of a normal distribution


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds left: in half of all cases no more than the first, in nine of ten than the second."""

    p50_s: float
    p90_s: float | None = None


class EtaGauge:
    """Looks at one job now and then, and says how sure its time left is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, int] | None = None
        self._intervals: deque[tuple[float, int]] = deque(maxlen=_MOST_INTERVALS)

    def look(self, num_done: int, num_left: int, eta_s: float | None) -> Eta | None:
        """Note how far the job is; the time left with its spread, where the server tells any."""
        now_s = self._clock()
        if self._last is None or num_done < self._last[1]:
            self._last = (now_s, num_done)
        elif num_done > self._last[1]:
            self._intervals.append((now_s - self._last[0], num_done - self._last[1]))
            self._last = (now_s, num_done)
        if eta_s is None:
            return None
        spread_s = self._spread_s(num_left)
        return Eta(eta_s, None if spread_s is None else eta_s + _P90 * spread_s)

    def forget(self) -> None:
        """Begin anew, as after a pause, which says nothing about the rate."""
        self._last = None

    def _spread_s(self, num_left: int) -> float | None:
        k = len(self._intervals)
        if k < _FEWEST_INTERVALS:
            return None
        rows = sum(rows for _, rows in self._intervals)
        s_per_row = sum(seconds for seconds, _ in self._intervals) / rows
        excess = [seconds - s_per_row * rows for seconds, rows in self._intervals]
        variance = sum(each**2 for each in excess) / (k - 1)
        m = num_left * k / rows
        return (variance * (m + m**2 / k)) ** 0.5
