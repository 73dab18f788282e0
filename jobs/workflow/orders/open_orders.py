"""The orders of a run that have not landed whole, and what of them has. Knows the job table."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from ...durable import may_exist
from ...job_dir import JobDir
from ...job_table import JobTable
from ...model import JobSnapshot, JobState
from .orders import Order, Share

_DONE = (JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS)

logger = logging.getLogger(__name__)


class OrderStopped(Exception):
    """An order has ended, and not all of it was answered."""


@dataclass(slots=True)
class _OpenOrder:
    order: Order
    num_landed: int = -1
    landed: set[int] = field(default_factory=set)
    shares: list[Share] = field(default_factory=list)  # not landed whole

    @property
    def missing(self) -> list[int]:
        """Name the shards that had not landed when we last looked."""
        return [index for index in range(self.order.num_shards) if index not in self.landed]


class OpenOrders:
    """Looks after the orders of one run."""

    def __init__(self, jobs_dir: Path, table: JobTable) -> None:
        self._jobs_dir = jobs_dir
        self._table = table
        self._orders: dict[str, _OpenOrder] = {}

    def __len__(self) -> int:
        """Count the orders that have not landed whole."""
        return len(self._orders)

    @property
    def job_ids(self) -> list[str]:
        """Name them."""
        return list(self._orders)

    def add(self, order: Order) -> None:
        """Look after one more."""
        self._orders[order.job_id] = _OpenOrder(order, shares=list(order.shares))

    def look(self) -> list[tuple[Order, Share]]:
        """Find the shares of which, since the last time, all has landed that ever will.

        What of them is not there any more is to be asked anew.

        Raises:
            OrderStopped: somebody has cancelled an order, or it has failed as a whole.
        """
        found: list[tuple[Order, Share]] = []
        job_ids = self.job_ids
        for job_id, job in zip(job_ids, self._table.snapshots(job_ids), strict=True):
            if job is not None:
                found += self._look_at(self._orders[job_id], job)
            elif not may_exist(JobDir(self._jobs_dir, job_id).spec):  # or it will be entered again
                found += self._give_up(job_id)
        return found

    def _give_up(self, job_id: str) -> list[tuple[Order, Share]]:
        """Forget an order that somebody has removed: nothing more will land of it."""
        gone = self._orders.pop(job_id)
        logger.error(
            "step %s: its job %s is gone; what it had not answered is asked again",
            gone.order.step_id,
            job_id,
        )
        return [(gone.order, share) for share in gone.shares]

    def _look_at(self, each: _OpenOrder, job: JobSnapshot) -> list[tuple[Order, Share]]:
        if job.shards_landed == each.num_landed and not job.state.is_final:
            return []
        missing, job_id = each.missing, each.order.job_id
        bits = self._table.landed(job_id, missing)
        each.landed |= {index for index, bit in zip(missing, bits, strict=True) if bit}
        each.num_landed = job.shards_landed
        whole: list[Share] = []
        rest: list[Share] = []
        if job.state in _DONE:  # what of it is gone again is asked anew
            whole, each.shares = each.shares, []
        for share in each.shares:
            is_whole = each.landed.issuperset(share.parts(each.order.shard_rows))
            (whole if is_whole else rest).append(share)
        each.shares = rest
        if not rest:
            del self._orders[job_id]
        elif job.state.is_final and job.state not in _DONE:
            why = f": {job.error}" if job.error else ""
            raise OrderStopped(
                f"step {each.order.step_id}: its job {job_id} is {job.state.value}{why}"
            )
        return [(each.order, share) for share in whole]
