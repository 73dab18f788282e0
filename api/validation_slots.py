"""How many dry runs are under way in this API process: one of a tenant, few of all. No route.

Each takes a processor for as long as it lasts, so the tenants take turns. Some may wait for theirs,
each with an upload on the disk perhaps; who comes then is to come again.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from anyio import CapacityLimiter

from .errors import Overloaded, TooManyRequests

MAX_DRY_RUNS = 2  # at the same time; more wait
MAX_WAITING = 8  # for their turn, or send their rows
BUSY_RETRY_S = 60  # most end sooner than they must
_RETRY_S = 5


class ValidationSlots:
    """Belongs to one event loop.

    Attributes:
        threads: for what blocks while a dry run lasts.
    """

    def __init__(self, max_dry_runs: int = MAX_DRY_RUNS, max_waiting: int = MAX_WAITING) -> None:
        self.threads = CapacityLimiter(max_dry_runs)
        self._max_tenants = max_dry_runs + max_waiting
        self._tenants: set[str] = set()

    @contextmanager
    def of(self, tenant: str) -> Iterator[None]:
        """Hold a tenant's place.

        Raises:
            TooManyRequests: the tenant has a dry run under way.
            Overloaded: as many others wait as may.
        """
        if tenant in self._tenants:
            raise TooManyRequests(
                "a validation of this tenant is under way; wait for its end",
                code="validation_running",
                retry_after_s=_RETRY_S,
            )
        if len(self._tenants) >= self._max_tenants:
            raise Overloaded(len(self._tenants), BUSY_RETRY_S)
        self._tenants.add(tenant)
        try:
            yield
        finally:
            self._tenants.remove(tenant)
