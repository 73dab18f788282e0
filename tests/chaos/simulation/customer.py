"""Whoever sends an order and sees to it: calls an API, again and again until it is answered."""

from collections.abc import Sequence

import redis

from penstock.jobs.durable import StorageFull
from penstock.jobs.errors import UnknownJob

from .cluster import Api
from .ledger import Order


class Customer:
    """Sends one order through whichever API lives, until it is acknowledged; then steers it.

    One that `asks_anyway` sends the order once more, whatever became of it meanwhile.
    """

    def __init__(self, order: Order, verbs: Sequence[str], *, asks_anyway: bool = False) -> None:
        self._order = order
        self._verbs = list(verbs)
        self._asks_anyway = asks_anyway

    def step(self, api: Api) -> float:
        """Make the next call, again until it is answered."""
        try:
            if self._order.job_id is None or self._asks_anyway:
                api.submit(self._order)
                self._asks_anyway = False
            elif self._verbs and api.steer(self._order, self._verbs[0]):
                self._verbs.pop(0)
        except (redis.RedisError, StorageFull, UnknownJob, OSError):
            return 1.0  # its caller was told, and tries again
        return 1.5 if self._verbs else 1e6
