"""Who is next: a fair share of the engines for every tenant, and within a tenant for every job.

The currency is tokens, so that a job with long answers does not crowd out one with short answers.
A tenant of weight 3 is given three times as much as one of weight 1, while both want something.
Jobs that serve one workflow share as one; of these, the one nearest to the end goes first, so that
what is begun gets finished.
Knows numbers only. A choice among ten thousand jobs costs no more than one among ten.
"""

import heapq
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that could use another shard.

    Attributes:
        cost: what a shard of it takes, in tokens.
        num_rows: rows of a shard.
        weight: its tenant's share against the other tenants'.
    """

    job_id: str
    tenant: str
    priority: int
    cost: float
    model: str = ""
    weight: float = 1.0
    num_rows: int = 1
    group: str = ""
    depth: int = 0

    @property
    def account(self) -> str:
        """Whose share it is that a job takes from within its tenant's."""
        return self.group or self.job_id


# (what an account was given, minus the depth of a job, its id); may hold what is out of date
_Entry = tuple[float, int, str]
_Heap = list[_Entry]
_Lines = dict[int, dict[str, _Heap]]  # priority -> tenant -> its jobs, least given first


class FairShare:
    """Remembers what every tenant and job has been given, so that all are given their share.

    Among the jobs of the highest priority, the tenant who was given least for its weight goes
    first, and of its jobs the one that was given least. Whoever comes new, or comes back, starts
    level with the one who was given least so far: being away saves nothing up.
    """

    def __init__(self) -> None:
        self._candidates: dict[str, Candidate] = {}
        self._tenants: dict[str, float] = {}
        self._accounts: dict[str, float] = {}
        self._holders: dict[str, set[str]] = defaultdict(set)  # of every account, the jobs in line
        self._num_jobs: dict[str, int] = defaultdict(int)  # of every tenant
        self._lines: dict[str, _Lines] = defaultdict(dict)

    def __contains__(self, job_id: str) -> bool:
        """Tell whether a job is in line."""
        return job_id in self._candidates

    def __len__(self) -> int:
        """Count the jobs in line."""
        return len(self._candidates)

    @property
    def tenants(self) -> Collection[str]:
        """Who has a job in line."""
        return self._tenants

    def offer(self, candidate: Candidate) -> None:
        """Put a job in line, or note what has changed about it."""
        known = self._candidates.get(candidate.job_id)
        if known is not None and known.tenant != candidate.tenant:
            self.withdraw(candidate.job_id)
            known = None
        self._candidates[candidate.job_id] = candidate
        if known is not None and _line(known) == _line(candidate):
            return  # it stands there already
        heap = self._heap(candidate)
        if known is None:
            self._num_jobs[candidate.tenant] += 1
            if candidate.tenant not in self._tenants:
                self._tenants[candidate.tenant] = min(self._tenants.values(), default=0.0)
            if candidate.account not in self._accounts:
                self._accounts[candidate.account] = self._least(heap, candidate)
            self._holders[candidate.account].add(candidate.job_id)
        self._push(candidate)

    def withdraw(self, job_id: str) -> None:
        """Take a job out of the line, and forget it; with its last job its tenant."""
        candidate = self._candidates.pop(job_id, None)
        if candidate is None:
            return
        self._holders[candidate.account].discard(job_id)
        if not self._holders[candidate.account]:
            del self._holders[candidate.account], self._accounts[candidate.account]
        self._num_jobs[candidate.tenant] -= 1
        if not self._num_jobs[candidate.tenant]:
            del self._num_jobs[candidate.tenant], self._tenants[candidate.tenant]

    def choose(self, model: str = "", *, barred: Collection[str] = frozenset()) -> Candidate | None:
        """Choose which job of a model gets the next shard; None if nobody wants one.

        The tenants that are `barred` keep their place, and wait.
        """
        lines = self._lines.get(model, {})
        for priority in sorted(lines, reverse=True):
            tops: list[tuple[float, _Entry]] = []
            for tenant, heap in list(lines[priority].items()):
                top = self._top(heap, model, priority)
                if top is None:
                    del lines[priority][tenant]
                else:
                    tops.append((self._tenants[tenant], top))
            free = [top for top in tops if self._candidates[top[1][2]].tenant not in barred]
            if free:
                return self._candidates[min(free)[1][2]]
            if not tops:
                del lines[priority]
        return None

    def charge(self, candidate: Candidate, num_shards: int) -> None:
        """Note that a chosen job was given shards."""
        self._tenants[candidate.tenant] += candidate.cost * num_shards / candidate.weight
        self._accounts[candidate.account] += candidate.cost * num_shards
        for job_id in self._holders[candidate.account]:
            self._push(self._candidates[job_id])

    def _push(self, candidate: Candidate) -> None:
        entry = (self._accounts[candidate.account], -candidate.depth, candidate.job_id)
        heapq.heappush(self._heap(candidate), entry)

    def _heap(self, candidate: Candidate) -> _Heap:
        tenants = self._lines[candidate.model].setdefault(candidate.priority, {})
        return tenants.setdefault(candidate.tenant, [])

    def _top(self, heap: _Heap, model: str, priority: int) -> _Entry | None:
        """Find the first entry that is still true, and drop those before it."""
        while heap:
            given, _, job_id = heap[0]
            candidate = self._candidates.get(job_id)
            is_true = (
                candidate is not None
                and (candidate.model, candidate.priority) == (model, priority)
                and self._accounts[candidate.account] == given
            )
            if is_true:
                return heap[0]
            heapq.heappop(heap)
        return None

    def _least(self, heap: _Heap, newcomer: Candidate) -> float:
        """Tell what was given to whoever in the same line was given least."""
        top = self._top(heap, newcomer.model, newcomer.priority)
        return 0.0 if top is None else top[0]


def _line(candidate: Candidate) -> tuple[str, int]:
    return candidate.model, candidate.priority
