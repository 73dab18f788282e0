"""How many streams each key has open at this API process. Knows keys and tenants, no frames.

Who has as many open as its tenant allows waits until one of them ends, first come, first served;
not for ever, as some streams are open as long as somebody watches.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable

from ..jobs.tenants import Tenants
from .errors import TooManyRequests
from .principal import Principal

PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.5  # at the limit: it may have been lifted


class StreamSlots:
    """Belongs to one event loop."""

    def __init__(self, tenants: Tenants, patience_s: float = PATIENCE_S) -> None:
        self._tenants = tenants
        self._patience_s = patience_s
        self._open: Counter[Principal] = Counter()
        self._waiting: defaultdict[Principal, deque[asyncio.Future[None]]] = defaultdict(deque)

    def num_open(self, tenant: str) -> int:
        """Count the streams of all keys of a tenant."""
        return sum(count for holder, count in self._open.items() if holder.tenant == tenant)

    async def take(self, holder: Principal) -> Callable[[], None]:
        """Take a place for one stream, when it is one's turn; return what gives it back.

        Raises:
            TooManyRequests: there was none all the while.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[holder].append(turn)
        try:
            await self._wait_for(turn, holder)
        except asyncio.CancelledError:
            if turn.done():  # it came as its taker left
                self._give_back(holder)
            raise
        finally:
            self._leave_line(turn, holder)
        if not turn.done():
            raise TooManyRequests(
                f"this key has {self._limit(holder)} streams open, as many as it may "
                "(max_streams); close one, or come again",
                code="too_many_streams",
                retry_after_s=1,
            )
        return self._way_back(holder)

    async def _wait_for(self, turn: asyncio.Future[None], holder: Principal) -> None:
        """Wait for a turn, as long as patience lasts; a limit may be lifted meanwhile."""
        deadline_s = time.monotonic() + self._patience_s
        self._serve(holder)
        while not turn.done() and (left_s := deadline_s - time.monotonic()) > 0:
            await asyncio.wait({turn}, timeout=min(_LOOK_EVERY_S, left_s))
            self._serve(holder)

    def _serve(self, holder: Principal) -> None:
        """Give the places there are to those who wait, the first of them first."""
        limit, waiting = self._limit(holder), self._waiting.get(holder)
        while waiting and (limit is None or self._open[holder] < limit):
            self._open[holder] += 1
            waiting.popleft().set_result(None)

    def _leave_line(self, turn: asyncio.Future[None], holder: Principal) -> None:
        waiting = self._waiting[holder]
        if not turn.done():
            waiting.remove(turn)
        if not waiting:
            del self._waiting[holder]

    def _way_back(self, holder: Principal) -> Callable[[], None]:
        is_open = True

        def give_back() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self._give_back(holder)

        return give_back

    def _give_back(self, holder: Principal) -> None:
        self._open[holder] -= 1
        if not self._open[holder]:
            del self._open[holder]
        self._serve(holder)

    def _limit(self, holder: Principal) -> int | None:
        return self._tenants.get(holder.tenant).max_streams
