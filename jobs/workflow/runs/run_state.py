"""How far a run has come: which shards of which step stand, are asked for, or can be made now.

All of it is found on the disk again by whoever takes over (`RunState.load`); nothing here is the
truth. Knows no Redis: whether a shard of an order has landed, others tell it.
"""

import heapq
from collections.abc import Sequence
from contextlib import suppress

from ...part_file import CorruptPart
from ..asks import Ask
from ..orders.orders import Order, Share
from ..plan import INPUT, Plan, PlannedStep
from ..work import AskOrSettle, Compute, Emit, Gather, Work
from ..workshop.shard_file import read_report
from ..workshop.shard_report import ShardReport, summed
from .run_results import RunResults
from .run_spec import RunSpec


class StepState:
    """One step of a run."""

    def __init__(self, step: PlannedStep, place: int, num_shards: int | None) -> None:
        self.step = step
        self.place = place
        self.num_shards = num_shards  # None while it is not known
        self.done: set[int] = set()
        self.busy: set[int] = set()  # under way in the workshop
        self.report = ShardReport()
        self.waiting: dict[str, list[tuple[int, Sequence[Ask]]]] = {}  # model -> not ordered yet
        self.num_waiting = 0
        self.num_ordered = 0  # rows that were asked for, and have not landed
        self.pending: dict[int, int] = {}  # shard -> orders that have not landed all of its share
        self.landed: dict[int, list[tuple[Order, Share]]] = {}
        self._counted: set[int] = set()  # what `report` adds up
        self._fresh: list[int] = []  # its sources stand, and nothing was asked
        self._answered: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether all shards stand."""
        return self.num_shards is not None and len(self.done) == self.num_shards

    def offer(self, shard: int) -> None:
        """Note that something can be done about a shard: its sources stand, or it was answered."""
        heapq.heappush(self._answered if shard in self.landed else self._fresh, shard)

    def take(self, *, may_ask_more: bool = True) -> int | None:
        """Choose a shard about which something can be done; one that was answered goes first."""
        for ready in (self._answered, self._fresh) if may_ask_more else (self._answered,):
            while ready:
                shard = heapq.heappop(ready)
                is_under_way = shard in self.pending or shard in self.busy
                if shard not in self.done and not is_under_way:
                    self.busy.add(shard)
                    return shard
        return None

    @property
    def has_asked_all(self) -> bool:
        """Whether nothing new can be asked before something is answered."""
        return self.num_shards == len(self.done) + len(self.pending)

    def wait_for(self, shard: int) -> None:
        """Note that a shard waits for the answers of one more order."""
        self.pending[shard] = self.pending.get(shard, 0) + 1

    def was_answered(self, shard: int) -> bool:
        """Note that it waits for one less; returns whether that was the last."""
        left = self.pending.pop(shard) - 1
        if left:
            self.pending[shard] = left
        return not left

    def finish(self, shard: int, report: ShardReport) -> None:
        """Note that a shard stands."""
        self.busy.discard(shard)
        self.done.add(shard)
        if shard not in self._counted:  # one that was lost is made again, and is what it was
            self._counted.add(shard)
            self.report = summed([self.report, report])


class RunState:
    """One run. `emitted` are the shards of the output that have landed."""

    def __init__(self, spec: RunSpec, plan: Plan) -> None:
        self.spec = spec
        self.plan = plan
        self.results = RunResults.of(spec)
        self.steps: dict[str, StepState] = {}
        for place, step in enumerate(plan.steps):
            self.steps[step.id] = StepState(step, place, None)
        self.emitted: set[int] = set()
        self._emitted_rows: dict[int, int] = {}
        self.emitting: set[int] = set()
        self._to_emit: list[int] = []
        self._readers: dict[str, list[StepState]] = {}
        for state in self.steps.values():
            for source in state.step.sources:
                self._readers.setdefault(source, []).append(state)

    @property
    def is_complete(self) -> bool:
        """Whether all steps stand, and the whole output has landed."""
        last = self.steps[self.plan.output_step]
        is_emitted = len(self.emitted) == last.num_shards
        return is_emitted and all(state.is_complete for state in self.steps.values())

    def load(self) -> None:
        """Find on the disk what stands already."""
        for state in self.steps.values():
            self._settle_size(state)
            for shard, path in self.results.step(state.step.id).parts().items():
                if state.num_shards is None or shard >= state.num_shards:
                    continue  # of a step that was gathering when it was stopped: it begins anew
                with suppress(CorruptPart):
                    state.finish(shard, read_report(path))
            if state.step.kind == "gather" and not state.is_complete:
                self._gather_again(state)
        for shard, path in self.results.output.parts().items():
            with suppress(CorruptPart):
                self.emit_done(shard, read_report(path))
        for state in self.steps.values():
            for shard in range(state.num_shards or 0):
                self._offer_if_fed(state, shard)
        last = self.steps[self.plan.output_step]
        self._to_emit = sorted(last.done - self.emitted)

    def stands(self, step_id: str, shard: int, report: ShardReport) -> None:
        """Note that a shard of a step stands; whoever reads it may go on."""
        state = self.steps[step_id]
        state.finish(shard, report)
        for reader in self._readers.get(step_id, ()):
            self._offer_if_fed(reader, shard)
        if step_id == self.plan.output_step:
            heapq.heappush(self._to_emit, shard)
        self._settle_sizes()

    def gathered(self, step_id: str, num_shards: int, report: ShardReport) -> None:
        """Note that all shards of a step stand that needed all rows."""
        state = self.steps[step_id]
        state.num_shards, state.report = num_shards, report
        state.done, state.busy = set(range(num_shards)), set()
        self._settle_sizes()
        for reader in self._readers.get(step_id, ()):
            for shard in range(num_shards):
                self._offer_if_fed(reader, shard)
        if step_id == self.plan.output_step:
            self._to_emit = sorted(state.done - self.emitted)

    def lost(self, step_id: str, shard: int) -> None:
        """Note that a shard does not stand any more."""
        state = self.steps[step_id]
        state.done.discard(shard)
        if state.step.kind == "gather":
            self._gather_again(state)
        else:
            self._offer_if_fed(state, shard)

    def put_back(self, work: Work) -> None:
        """Note that a piece could not be done; it is offered again when its sources stand."""
        match work:
            case Emit():
                self.emitting.discard(work.shard)
            case Gather():
                self.steps[work.step_id].busy.clear()
            case Compute() | AskOrSettle():
                self.steps[work.step_id].busy.discard(work.shard)

    def _gather_again(self, state: StepState) -> None:
        """Let a step have all its rows once more: not all of its shards are there."""
        self.results.forget_gathered(state.step.id)
        state.num_shards, state.report = None, ShardReport()
        state.done.clear()

    def next_emit(self) -> int | None:
        """Choose a shard of the output that can land."""
        while self._to_emit:
            shard = heapq.heappop(self._to_emit)
            if shard not in self.emitted and shard not in self.emitting:
                self.emitting.add(shard)
                return shard
        return None

    def emit_done(self, shard: int, report: ShardReport) -> None:
        """Note that a shard of the output has landed."""
        self.emitting.discard(shard)
        self.emitted.add(shard)
        if report.failed and shard not in self._emitted_rows:  # the last step's, for all to see
            last = self.steps[self.plan.output_step]
            misfits = ShardReport(
                failed=report.failed, errors=report.errors, examples=report.examples
            )
            last.report = summed([last.report, misfits])
        self._emitted_rows[shard] = report.rows_out

    @property
    def output_rows(self) -> int:
        """Count the rows that have landed in the output."""
        return sum(self._emitted_rows.values())

    def output_lost(self, shards: Sequence[int]) -> None:
        """Note that parts of the output do not stand any more: they land again."""
        self.emitted -= set(shards)
        self._to_emit += shards
        heapq.heapify(self._to_emit)

    def next_work(self, max_ordered: int) -> Work | None:
        """Choose what to do next: what is nearest to the end, which keeps little under way.

        Steps that have asked for `max_ordered` rows, and not been answered, wait.
        """
        for state in reversed(self.steps.values()):
            if state.step.kind == "gather":
                if (work := self._gather(state)) is not None:
                    return work
                continue
            num_asked = state.num_ordered + state.num_waiting
            shard = state.take(may_ask_more=num_asked < max_ordered)
            if shard is not None:
                return self._work(state, shard)
        return None

    def order_placed(self, order: Order) -> None:
        """Note that an order has been placed; its shares are under way."""
        state = self.steps[order.step_id]
        for share in order.shares:
            state.wait_for(share.shard)
        state.num_ordered += order.num_rows

    def share_landed(self, order: Order, share: Share) -> None:
        """Note that all of a share has been answered."""
        state = self.steps[order.step_id]
        state.num_ordered -= share.num_rows
        state.landed.setdefault(share.shard, []).append((order, share))
        if state.was_answered(share.shard):
            self._offer_if_fed(state, share.shard)

    def _work(self, state: StepState, shard: int) -> Work:
        run_id, step = self.spec.run_id, state.step
        if step.kind == "local":
            return Compute(run_id, step.id, shard)
        orders = tuple(
            Order(order.job_id, step.id, order.model, order.num_shards, order.shard_rows, (share,))
            for order, share in state.landed.get(shard, ())
        )
        return AskOrSettle(run_id, step.id, shard, orders)

    def _gather(self, state: StepState) -> Gather | None:
        if state.num_shards is not None or state.busy:
            return None
        sizes = [self._size_if_complete(source) for source in state.step.sources]
        if None in sizes:
            return None
        state.busy.add(-1)
        return Gather(self.spec.run_id, state.step.id, tuple(size or 0 for size in sizes))

    def _size_if_complete(self, source: str) -> int | None:
        if source.startswith(INPUT):
            return self.spec.inputs[source.removeprefix(INPUT)].num_shards
        state = self.steps[source]
        return state.num_shards if state.is_complete else None

    def _offer_if_fed(self, state: StepState, shard: int) -> None:
        is_wanted = state.step.kind != "gather" and shard not in state.done
        if is_wanted and all(self._stands(source, shard) for source in state.step.sources):
            state.offer(shard)

    def _stands(self, source: str, shard: int) -> bool:
        return source.startswith(INPUT) or shard in self.steps[source].done

    def _settle_sizes(self) -> None:
        for state in self.steps.values():
            if state.num_shards is None:
                self._settle_size(state)

    def _settle_size(self, state: StepState) -> None:
        """Find out how many shards a step has: as many as what it reads, unless it gathers."""
        if state.step.kind == "gather":
            state.num_shards = self.results.gathered(state.step.id)
            return
        source = state.step.sources[0]
        if source.startswith(INPUT):
            state.num_shards = self.spec.inputs[source.removeprefix(INPUT)].num_shards
        else:
            state.num_shards = self.steps[source].num_shards
