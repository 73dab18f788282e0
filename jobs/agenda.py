"""Which jobs want something done now. Reads the job table's indexes, never every job.

What it costs grows with the work at hand (shards queued and held, jobs that end), not with the
number of jobs: ten thousand that wait, pause or have nothing to say are not looked at.
"""

from typing import Any

import redis
from redis.commands.core import Script

from .keys import Keys


class Agenda:
    """The indexes of the job table. Names may be there too soon, never too late: look, then act."""

    def __init__(
        self, client: redis.Redis, keys: Keys, *, due: Script, queued: Script, under_way: Script
    ) -> None:
        self._redis: Any = client
        self._keys = keys
        self._due = due
        self._queued = queued
        self._under_way = under_way

    def hungry(self, since_us: float, limit: int) -> list[tuple[str, float]]:
        """Name jobs with shards to issue that changed at `since_us` or later, and when they did."""
        return self._redis.zrangebyscore(
            self._keys.hungry, since_us, "+inf", start=0, num=limit, withscores=True
        )

    def is_hungry(self, job_id: str) -> bool:
        """Tell whether a job has shards to issue."""
        return self._redis.zscore(self._keys.hungry, job_id) is not None

    def queued(self) -> dict[str, int]:
        """Count the shards that are queued and not yet claimed, by model."""
        flat = self._queued([self._keys.issued], [self._keys.job_prefix])
        return dict(zip(flat[::2], map(int, flat[1::2]), strict=True))

    def under_way(self) -> dict[str, int]:
        """Count the shards that are queued or leased, by job."""
        indexes = [self._keys.issued, self._keys.leased]
        flat = self._under_way(indexes, [self._keys.job_prefix])
        return dict(zip(flat[::2], map(int, flat[1::2]), strict=True))

    def stale(self, older_than_ms: int, limit: int) -> list[str]:
        """Name jobs whose oldest queued shard has waited for so long."""
        return self._due([self._keys.issued], [older_than_ms, limit, 0])

    def unrenewed(self, limit: int) -> list[str]:
        """Name jobs of which a lease may have run out."""
        return self._due([self._keys.leased], [0, limit, 0])

    def landing(self, patience_ms: int, limit: int) -> list[str]:
        """Name jobs whose shards landed so long ago, and that nobody completed; each now and then.

        One that is named is not named again before as much time has passed.
        """
        return self._due([self._keys.landing], [patience_ms, limit, 1])

    def overdue(self, limit: int) -> list[str]:
        """Name jobs whose deadline has passed; each once, so end them."""
        return self._due([self._keys.deadlines], [0, limit, 1])

    def blocked(self, patience_ms: int, limit: int) -> list[str]:
        """Name jobs that wait for room where their rows land; each now and then, as `landing`."""
        return self._due([self._keys.blocked], [patience_ms, limit, 1])
