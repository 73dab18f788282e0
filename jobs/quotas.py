"""Whose work must wait because enough of it is under way. Knows numbers and tenants.

Nothing is refused here: what is beyond a quota stays in its job, and comes when there is room. A
shard is begun while its tenant is below its quota, so the last one may reach beyond it.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from .job_table import JobTable
from .model import JobSnapshot
from .stored_bytes import StoredBytes
from .tenants import Load, Tenant, Tenants

_COST_UNKNOWN = 256.0  # tokens per row, until a job has landed some
_MAX_AGE_S = 1.0


def shard_load(job: JobSnapshot) -> Load:
    """Tell what a shard of a job takes; tokens by what its rows have taken so far."""
    num_landed = job.counts.succeeded + job.counts.failed
    num_tokens = job.prompt_tokens + job.completion_tokens
    per_row = num_tokens / num_landed if num_landed else _COST_UNKNOWN
    num_rows = -(-job.counts.total // job.num_shards)
    return Load(num_rows, max(per_row, 1.0) * num_rows)


class Quotas:
    """Counts what is queued and running of every tenant that has a quota.

    `stored_bytes` tells how much a tenant stores, as far as that is known: it must not wait.

    Attributes:
        limited: the tenants that had one when they were last looked at.
        barred: those of them that have no room for another shard.
    """

    def __init__(
        self, tenants: Tenants, stored_bytes: Callable[[str], int] = lambda name: 0
    ) -> None:
        self.limited: frozenset[str] = frozenset()
        self.barred: set[str] = set()
        self._tenants = tenants
        self._stored_bytes = stored_bytes
        self._loads: dict[str, Load] = defaultdict(Load)

    def tenant(self, name: str) -> Tenant:
        """Return what a tenant may have."""
        return self._tenants.get(name)

    def begin(self, names: Iterable[str]) -> None:
        """Count anew, for those of these tenants who have a quota."""
        self.limited = frozenset(name for name in names if self.tenant(name).has_quota)
        self.barred.clear()
        self._loads.clear()
        for name in self.limited:
            if self.tenant(name).max_stored_bytes is not None:
                self.add(name, Load(stored_bytes=self._stored_bytes(name)))

    def add(self, name: str, load: Load) -> None:
        """Note that so much of a tenant's work is under way."""
        if name not in self.limited:
            return
        self._loads[name] += load
        if self.tenant(name).shortage(self._loads[name]) is not None:
            self.barred.add(name)


class QuotaWatch:
    """Tells whoever asks what a tenant takes up, and whether a job waits for that to become less.

    It blocks: call it in a thread.
    """

    def __init__(self, table: JobTable, tenants: Tenants, stored: StoredBytes) -> None:
        self._table = table
        self._tenants = tenants
        self._stored = stored
        self._counted_at_s = float("-inf")
        self._under_way: Mapping[str, Load] = {}

    def load(self, name: str) -> Load:
        """Add up what a tenant has queued, running and on disk, as it was a moment ago.

        The disk is looked at only for those who may store only so much.
        """
        load = self._counted().get(name, Load())
        if self._tenants.get(name).max_stored_bytes is None:
            return load
        return load + Load(stored_bytes=self._stored.of(name).total)

    def reason(self, job: JobSnapshot) -> str | None:
        """Say for which quota a job waits, with figures; None if it waits for none."""
        tenant = self._tenants.get(job.tenant)
        if not (tenant.has_quota and job.state.is_open):
            return None
        if not self._table.agenda.is_hungry(job.job_id):
            return None  # all that is left of it has been issued
        return tenant.shortage(self.load(tenant.name))

    def _counted(self) -> Mapping[str, Load]:
        """Add up by tenant what is queued and running."""
        if time.monotonic() - self._counted_at_s > _MAX_AGE_S:
            loads: dict[str, Load] = defaultdict(Load)
            shards = self._table.agenda.under_way()
            for job in self._table.snapshots(list(shards)):
                if job is not None:
                    each, num_shards = shard_load(job), shards[job.job_id]
                    loads[job.tenant] += Load(each.rows * num_shards, each.tokens * num_shards)
            self._under_way, self._counted_at_s = loads, time.monotonic()
        return self._under_way
