"""What a run asks of models: its orders, from the asks that want one to what has landed of them.

Knows the job table. What is asked, and what comes of the answers, the workshop works out; how far a
step is, its state is told.
"""

import logging
import time
from collections.abc import Sequence

import redis

from ...control import PAUSED_BY_USER
from ...ending import cancel
from ...errors import CorruptJob, JobBusy, UnknownJob
from ...job_table import JobTable
from ...model import JobState
from ...settings import Settings
from ...steering import pause, resume
from ..asks import Ask
from ..orders.open_orders import OpenOrders
from ..orders.order_numbers import OrderNumbers
from ..orders.orders import Order, order_of, orders_of, place_order
from .run_control import RunControl, prioritize
from .run_spec import RunSpec
from .run_state import RunState, StepState

ORDER_ROWS = 4_096  # worth an order of their own while others are under way
ORDER_WAIT_S = 1.0  # and how long fewer than these wait for more

logger = logging.getLogger(__name__)


class RunOrders:
    """The orders of one run; `run` is told of them."""

    def __init__(self, settings: Settings, table: JobTable, spec: RunSpec, run: RunState) -> None:
        self._settings = settings
        self._table = table
        self._spec = spec
        self._run = run
        self._numbers = OrderNumbers(settings.jobs_dir, spec)
        self._open = OpenOrders(settings.jobs_dir, table)
        self._control = RunControl.of(spec)
        self._is_paused: bool | None = None  # whether all pause, as far as this process knows
        self._asked_at_s: dict[str, float] = {}  # since when something of a step waits for an order

    def __len__(self) -> int:
        """Count the orders that have not landed whole."""
        return len(self._open)

    def load(self) -> None:
        """Find on the disk what has been ordered already."""
        for order in orders_of(self._settings.jobs_dir, self._spec.run_id):
            if order.step_id in self._run.steps:
                self._add(order)

    def want(self, step_id: str, shard: int, asks: Sequence[Ask]) -> None:
        """Note what a shard of a step asks; `place` orders it."""
        state = self._run.steps[step_id]
        for model in dict.fromkeys(ask.model for ask in asks):
            wanted = [ask for ask in asks if ask.model == model]
            state.waiting.setdefault(model, []).append((shard, wanted))
            state.wait_for(shard)
        state.num_waiting += len(asks)
        state.busy.discard(shard)
        self._asked_at_s.setdefault(step_id, time.monotonic())

    def place(self) -> None:
        """Order what steps want of models, unless more of it is about to come.

        Raises:
            StorageFull: there is no room for an order.
        """
        for state in self._run.steps.values():
            for model in list(state.waiting):
                self._place(state, model)

    def look(self) -> None:
        """Note what has landed since the last time.

        Raises:
            OrderStopped: somebody has cancelled an order, or it has failed as a whole.
        """
        for order, share in self._open.look():
            self._run.share_landed(order, share)

    def heed(self, wanted: RunControl) -> None:
        """Let the orders have the priority of the run, should that have changed."""
        if wanted.priority != self._control.priority:
            orders = self._table.snapshots(self._open.job_ids)
            try:
                prioritize(self._settings, self._table, orders, wanted.priority)
            except JobBusy:
                return  # at the next look
        self._control = wanted

    def steer(self, *, is_on: bool) -> None:
        """Let the orders pause, or go on; those that cannot be steered now are at the next look."""
        if self._is_paused != is_on:
            self._is_paused = is_on if self._steer_all(is_on=is_on) else None

    def cancel_all(self) -> bool:
        """Cancel what has not landed; of a complete run there is none. Returns whether all is."""
        for job_id in self._open.job_ids:
            try:
                cancel(self._settings, self._table, job_id)
            except (UnknownJob, CorruptJob) as error:
                logger.warning("%s cannot be cancelled: %s", job_id, error)
            except JobBusy:
                return False
        return True

    def _place(self, state: StepState, model: str) -> None:
        waiting = state.waiting[model]
        step_id = state.step.id
        num_rows = sum(len(asks) for _, asks in waiting)
        has_waited = time.monotonic() - self._asked_at_s.get(step_id, 0.0) > ORDER_WAIT_S
        is_due = num_rows >= ORDER_ROWS or has_waited or state.has_asked_all
        if not is_due and len(self._open):
            return
        shares = waiting[:]
        spec = place_order(
            self._numbers, self._spec, step_id, state.place, shares, self._control.priority
        )
        del state.waiting[model]
        state.num_waiting -= num_rows
        for shard, _ in shares:
            state.was_answered(shard)  # or will be: from here on the order stands for them
        if not state.waiting:
            self._asked_at_s.pop(step_id, None)
        self._add(order_of(spec))
        try:
            self._table.create(spec)
        except redis.RedisError as error:  # the keeper will find the directory
            logger.warning("%s is not in the job table yet: %s", spec.job_id, error)

    def _add(self, order: Order) -> None:
        self._run.order_placed(order)
        self._open.add(order)

    def _steer_all(self, *, is_on: bool) -> bool:
        """Pause the orders that go on, or the other way round; returns whether all could be."""
        job_ids, are_all = self._open.job_ids, True
        for job_id, job in zip(job_ids, self._table.snapshots(job_ids), strict=True):
            if job is None:  # not entered yet: when it is, it is to be steered, too
                are_all = False
                continue
            is_ours = job.state is JobState.PAUSED and job.pause_reason == PAUSED_BY_USER
            try:
                if is_on and job.state.is_open:
                    pause(self._settings, self._table, job_id)
                elif not is_on and is_ours:
                    resume(self._settings, self._table, job_id)
            except (UnknownJob, CorruptJob) as error:
                logger.warning("%s cannot be steered: %s", job_id, error)
            except JobBusy:
                are_all = False
        return are_all
