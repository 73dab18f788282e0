"""Whose work must wait because enough of it is under way. Knows numbers and tenants, no Redis.

Nothing is refused here: what is beyond a quota stays in its job, and comes when there is room. A
shard is begun while its tenant is below its quota, so the last one may reach beyond it.
"""

from collections import defaultdict
from collections.abc import Iterable

from .tenants import Tenant, Tenants


class Quotas:
    """Counts what is queued and running of every tenant that has a quota.

    Attributes:
        limited: the tenants that had one when they were last looked at.
        barred: those of them that have no room for another shard.
    """

    def __init__(self, tenants: Tenants) -> None:
        self.limited: frozenset[str] = frozenset()
        self.barred: set[str] = set()
        self._tenants = tenants
        self._rows: dict[str, int] = defaultdict(int)
        self._tokens: dict[str, float] = defaultdict(float)

    def tenant(self, name: str) -> Tenant:
        """Return what a tenant may have."""
        return self._tenants.get(name)

    def begin(self, names: Iterable[str]) -> None:
        """Count anew, for those of these tenants who have a quota."""
        self.limited = frozenset(name for name in names if self.tenant(name).has_quota)
        self.barred.clear()
        self._rows.clear()
        self._tokens.clear()

    def add(self, name: str, num_rows: int, num_tokens: float) -> None:
        """Note that so much of a tenant's work is under way."""
        if name not in self.limited:
            return
        self._rows[name] += num_rows
        self._tokens[name] += num_tokens
        if not self.tenant(name).has_room(self._rows[name], self._tokens[name]):
            self.barred.add(name)
