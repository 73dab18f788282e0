"""Who waits for the first word of an answer, and when those should come again who find no room.

Knows requests and a clock; no Redis, no route. A line that may grow without end serves everybody
late: beyond its limit it is kinder to say so at once, and when there will be room.
"""

import time
from collections import deque
from collections.abc import Callable

from .errors import Overloaded

LONGEST_WAIT_S = 60  # OpenAI's clients take no notice of a longer one
_PACE_OVER_S = 10.0  # how far back the pace of the line is measured


class WaitingLine:
    """The requests of this process that wait. Not for use by several threads."""

    def __init__(self, limit: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock_s = clock_s
        self._num_waiting = 0
        self._served_s: deque[float] = deque()
        self._promised_s = 0.0  # until then, all room that there will be is promised

    def __len__(self) -> int:
        """Return how many wait."""
        return self._num_waiting

    def enter(self) -> "Place":
        """Begin to wait.

        Raises:
            Overloaded: there is no room; it says when there will be.
        """
        if self._num_waiting >= self._limit:
            raise Overloaded(self._num_waiting, self._appointment_s())
        self._num_waiting += 1
        return Place(self._end)

    def _end(self, was_served: bool) -> None:
        self._num_waiting -= 1
        if was_served:
            self._served_s.append(self._clock_s())
            self._forget_old()

    def _appointment_s(self) -> int:
        """Promise the next place that comes free at the line's pace; each is promised once.

        A line that stands still is hoped to move again. Where more are refused than can be told a
        time of their own, the last of them are spread over the later half of what can be told.
        """
        self._forget_old()
        now_s = self._clock_s()
        pace = max(self._limit, len(self._served_s)) / _PACE_OVER_S
        self._promised_s = max(self._promised_s, now_s) + 1 / pace
        if self._promised_s >= now_s + LONGEST_WAIT_S:
            self._promised_s = now_s + LONGEST_WAIT_S / 2
        return int(self._promised_s - now_s) + 1

    def _forget_old(self) -> None:
        oldest_s = self._clock_s() - _PACE_OVER_S
        while self._served_s and self._served_s[0] < oldest_s:
            self._served_s.popleft()


class Place:
    """One place in the line, given back once: by `serve` or by `leave`, whichever comes first."""

    __slots__ = ("_end",)

    def __init__(self, end: Callable[[bool], None]) -> None:
        self._end: Callable[[bool], None] | None = end

    def serve(self) -> None:
        """Stop waiting, as the first word is there."""
        self._stop(was_served=True)

    def leave(self) -> None:
        """Stop waiting, whatever has become of it."""
        self._stop(was_served=False)

    def _stop(self, *, was_served: bool) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(was_served)
