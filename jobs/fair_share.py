"""Who is next: a fair share of the engines for every tenant, and within a tenant for every job.

The currency is tokens, so that a job with long answers does not crowd out one with short answers.
Knows numbers only.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that could use another shard. `cost` is what a shard of it takes, in tokens."""

    job_id: str
    tenant: str
    priority: int
    cost: float


class FairShare:
    """Remembers what every tenant and job has been given, so that all are given the same.

    Among the jobs of the highest priority, the tenant who was given least goes first, and of its
    jobs the one that was given least. Whoever comes new, or comes back, starts level with the one
    who was given least so far: being away saves nothing up.
    """

    def __init__(self) -> None:
        self._tenants: dict[str, float] = {}
        self._jobs: dict[str, float] = {}

    def choose(self, candidates: Collection[Candidate]) -> Candidate | None:
        """Choose who gets the next shard; None if nobody wants one."""
        if not candidates:
            return None
        self._admit(candidates)
        highest = max(candidate.priority for candidate in candidates)
        return min(
            (candidate for candidate in candidates if candidate.priority == highest),
            key=lambda c: (self._tenants[c.tenant], self._jobs[c.job_id], c.job_id),
        )

    def charge(self, candidate: Candidate, num_shards: int) -> None:
        """Note that a chosen job was given shards."""
        self._tenants[candidate.tenant] += candidate.cost * num_shards
        self._jobs[candidate.job_id] += candidate.cost * num_shards

    def retain(self, candidates: Collection[Candidate]) -> None:
        """Forget all tenants and jobs but these."""
        tenants = {candidate.tenant for candidate in candidates}
        job_ids = {candidate.job_id for candidate in candidates}
        self._tenants = {name: given for name, given in self._tenants.items() if name in tenants}
        self._jobs = {job_id: given for job_id, given in self._jobs.items() if job_id in job_ids}

    def _admit(self, candidates: Collection[Candidate]) -> None:
        for candidate in candidates:
            if candidate.tenant not in self._tenants:
                self._tenants[candidate.tenant] = min(self._tenants.values(), default=0.0)
            if candidate.job_id not in self._jobs:
                self._jobs[candidate.job_id] = min(self._jobs.values(), default=0.0)
