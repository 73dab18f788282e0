"""How fast a tenant may send requests. Knows tenants and a clock, no route.

Each API process counts for itself, in memory: the limit keeps one tenant from crowding out the
others at this process's door, and is no bill. Work is never refused for being much; it queues.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from ..jobs.tenants import Tenants
from .auth import OPEN_PATHS
from .errors import TooManyRequests
from .principal import principal_of

_BUCKETS_KEPT = 10_000


class RateLimit:
    """ASGI middleware: one bucket of a minute's requests per tenant, filled evenly."""

    def __init__(
        self, app: ASGIApp, tenants: Tenants, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._tenants = tenants
        self._clock_s = clock_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # when, how full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 429 and say when to come again."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            tenant = self._tenants.get(principal_of(scope).tenant)
            wait_s = self._wait_s(tenant.name, tenant.requests_per_minute)
            if wait_s > 0:
                refusal = TooManyRequests(
                    f"the tenant {tenant.name} may send {tenant.requests_per_minute} requests a "
                    f"minute; come again in {math.ceil(wait_s)} s",
                    retry_after_s=math.ceil(wait_s),
                )
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _wait_s(self, tenant: str, per_minute: int | None) -> float:
        """Take a request out of the bucket; if there is none, say how long until there is."""
        if per_minute is None:
            return 0.0
        now_s = self._clock_s()
        at_s, left = self._buckets.pop(tenant, (now_s, float(per_minute)))
        left = min(left + (now_s - at_s) * per_minute / 60, per_minute)
        wait_s = 0.0 if left >= 1 else (1 - left) * 60 / per_minute
        self._buckets[tenant] = now_s, left if wait_s else left - 1
        if len(self._buckets) > _BUCKETS_KEPT:
            self._buckets.popitem(last=False)
        return wait_s
