"""What goes wrong, when, by a seed. Knows the world and the store; the disk has its own faults.

Small faults strike by chance at any store call or durable action; large ones are set for a time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import redis
from redis.exceptions import OutOfMemoryError

from .store import Store
from .world import Crashed, World

PAUSES_S = (0.05, 0.5, 3.0, 6.0, 12.0)  # a lease is 4 s, the keepers' lead 3 s


@dataclass(frozen=True, slots=True)
class Plan:
    """What kinds of faults a run has, and how often the small ones strike."""

    duration_s: float  # faults end then, and everything must come right
    store_rate: float  # of all store calls
    disk_rate: float  # of all durable actions
    num_large: int
    skew_s: float = 0.0  # wall clocks are off by up to this

    @property
    def is_calm(self) -> bool:
        return not (self.store_rate or self.disk_rate or self.num_large)

    @classmethod
    def draw(cls, random: Random) -> "Plan":
        if random.random() < 0.08:
            return cls(duration_s=1.0, store_rate=0.0, disk_rate=0.0, num_large=0)
        return cls(
            duration_s=random.uniform(4.0, 14.0),
            store_rate=random.choice((0.0, 0.003, 0.01, 0.03)),
            disk_rate=random.choice((0.0, 0.01, 0.04)),
            num_large=random.choice((1, 2, 3, 5)),
            skew_s=random.choice((0.0, 0.0, 0.0, 3600.0)),
        )


class Wire:
    """Stands between every client and the store."""

    def __init__(self, world: World, store: Store, plan: Plan) -> None:
        self.is_away = False  # the server does not answer
        self.is_full = False  # it refuses what takes memory
        self.is_quiet = True  # no small faults
        self._world = world
        self._store = store
        self._plan = plan
        self._older: dict[str, Any] = {}

    def keep_copy(self) -> None:
        """Remember what is stored now: stale reads are answered from it."""
        self._older = self._store.copy()

    def round_trip(self, name: str, do: Callable[[], Any], *, is_read: bool, fits: bool) -> Any:
        world = self._world
        world.now_us += 90
        world.reach()
        if self.is_away:
            raise redis.ConnectionError("simulated: no server")
        if self.is_full and not fits:
            raise OutOfMemoryError("simulated: command not allowed")
        if self.is_quiet or world.current is None:
            return do()
        if world.random.random() >= self._plan.store_rate * _WEIGHTS.get(name, 1):
            return do()
        return self._disturbed(name, do, is_read)

    def _disturbed(self, name: str, do: Callable[[], Any], is_read: bool) -> Any:
        world = self._world
        thread = world.current
        assert thread is not None
        kind = world.random.choice(_KINDS)
        if (kind == "stale" and not is_read) or (kind in ("late", "slow") and not world.may_pause):
            return do()
        world.note(f"{name}: {kind}")
        match kind:
            case "crash before":
                world.crash(thread.process)
                raise Crashed
            case "crash after":
                do()
                world.crash(thread.process)
                raise Crashed
            case "request lost":
                raise redis.ConnectionError("simulated: request lost")
            case "reply lost":
                do()
                raise redis.TimeoutError("simulated: reply lost")
            case "sent again":  # as redis-py does by itself when a connection is cut
                do()
                return do()
            case "late":
                world.pause(world.random.choice(PAUSES_S))
                return do()
            case "slow":
                answer = do()
                world.pause(world.random.choice(PAUSES_S))
                return answer
            case "stale":
                self._store.data, now = self._older, self._store.data
                try:
                    return do()
                finally:
                    self._store.data = now
        raise ValueError(f"no fault is called {kind}")


# Where a moment's delay matters, faults strike more often.
_WEIGHTS = {"claim": 3, "commit": 8, "create": 8, "finish": 8, "reap": 3, "release": 5}
_KINDS = (
    *("crash before", "crash after", "request lost", "reply lost", "sent again"),
    *("late", "late", "slow", "slow", "stale", "stale"),
)
