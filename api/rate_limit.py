"""How fast a tenant may send requests, and make things. Knows tenants and a clock, no route.

Each API process counts for itself, in memory: the limit keeps one tenant from crowding out the
others at this process's door, and is no bill. Work is never refused for being much; it queues.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ..jobs.tenants import Tenants
from .auth import is_open
from .errors import TooManyRequests
from .principal import principal_of

_BUCKETS_KEPT = 10_000


class Buckets:
    """A bucket of a minute's requests for each name, filled evenly."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # when, how full

    def take(self, name: str, per_minute: int | None) -> float:
        """Take a request out of a bucket; if there is none, say how many s until there is."""
        if per_minute is None:
            return 0.0
        left = self._left(name, per_minute)
        wait_s = 0.0 if left >= 1 else (1 - left) * 60 / per_minute
        self._levels[name] = self._clock_s(), left if wait_s else left - 1
        self._levels.move_to_end(name)
        if len(self._levels) > _BUCKETS_KEPT:
            self._levels.popitem(last=False)
        return wait_s

    def used(self, name: str, per_minute: int | None) -> int | None:
        """Tell how much of a bucket is taken; None where there is no limit, and so no bucket."""
        if per_minute is None:
            return None
        return math.ceil(per_minute - self._left(name, per_minute))

    def _left(self, name: str, per_minute: int) -> float:
        now_s = self._clock_s()
        at_s, left = self._levels.get(name, (now_s, float(per_minute)))
        return min(left + (now_s - at_s) * per_minute / 60, per_minute)


class RateGates:
    """What every request of a tenant passes, and what those pass that make something."""

    def __init__(self, tenants: Tenants, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._tenants = tenants
        self.requests = Buckets(clock_s)
        self.creates = Buckets(clock_s)

    def refusal(self, name: str) -> TooManyRequests | None:
        """Say that a tenant's request comes too early, if it does."""
        limit = self._tenants.get(name).requests_per_minute
        what = f"may send {limit} requests a minute (requests_per_minute)"
        return _refusal(name, what, self.requests.take(name, limit))

    def creation_refusal(self, name: str) -> TooManyRequests | None:
        """Say that it is too early for a tenant to make one thing more, if it is."""
        limit = self._tenants.get(name).creates_per_minute
        what = f"may make {limit} jobs, runs and files a minute (creates_per_minute)"
        return _refusal(name, what, self.creates.take(name, limit))


class RateLimit:
    """ASGI middleware that shuts the gate of all requests before a body is read.

    The gate of what makes something is for the routes, which know what they make (`creations`).
    """

    def __init__(self, app: ASGIApp, gates: RateGates) -> None:
        self._app = app
        self._gates = gates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429 and say when to come again."""
        if scope["type"] == "http" and not is_open(scope["path"]):
            refusal = self._gates.refusal(principal_of(scope).tenant)
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refusal(tenant: str, what: str, wait_s: float) -> TooManyRequests | None:
    if wait_s <= 0:
        return None
    again_s = math.ceil(wait_s)
    return TooManyRequests(
        f"the tenant {tenant} {what}; come again in {again_s} s", retry_after_s=again_s
    )
