"""One run while it is advanced: its state, its orders, and what is told about it.

Knows the job table and the run's directory. `Advancer` decides when it gets a turn; what it hands
to the workshop, and takes from there, are pieces of `work`.
"""

import logging
import shutil
import time
from dataclasses import replace

import msgspec
import redis

from ...control import PAUSED_BY_USER
from ...durable import StorageFull
from ...ending import cancel
from ...errors import CorruptJob, JobBusy, UnknownJob
from ...events import JobEvents
from ...job_table import JobTable
from ...model import JobState
from ...settings import Settings
from ...steering import pause, resume
from ..model_revisions import ModelRevisions
from ..orders.open_orders import OpenOrders, OrderStopped
from ..orders.order_numbers import OrderNumbers
from ..orders.orders import order_of, orders_of, place_order
from ..replanning import plan_of
from ..work import (
    AskOrSettle,
    Broken,
    Compute,
    Emit,
    Gather,
    Gathered,
    Made,
    Missing,
    Outcome,
    Wanted,
    Work,
)
from .completion import Completion
from .error_rates import too_many
from .report import RunReport, report_of
from .run_control import RunControl, prioritize, read_control
from .run_dir import RunDir, RunFinal, RunPause
from .run_state import RunState, StepState
from .telling import RunNews

WINDOW_ROWS = 16_384  # that a step may have asked for, and not been answered
ORDER_ROWS = 4_096  # worth an order of their own while others are under way
ORDER_WAIT_S = 1.0  # and how long fewer than these wait for more
RETRY_S = 2.0

logger = logging.getLogger(__name__)


class RunAtWork:
    """A run that somebody advances.

    Raises:
        UnknownJob: there is no such run.
        CorruptJob: it cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        table: JobTable,
        events: JobEvents,
        directory: RunDir,
        revisions: ModelRevisions,
    ) -> None:
        self._settings = settings
        self._table = table
        self._revisions = revisions
        self._directory = directory
        spec = directory.read()
        self.run_id = spec.run_id
        self._spec = spec
        self._run = RunState(spec, plan_of(spec))
        self._completion = Completion(settings, spec, self._run.plan)
        self._numbers = OrderNumbers(settings.jobs_dir, spec)
        self._orders = OpenOrders(settings.jobs_dir, table)
        self._news = RunNews(table, events, spec.run_id)
        self._started_at_ms = directory.read_started()
        self._is_start_noted = self._started_at_ms is not None
        self._control = RunControl.of(spec)
        self._trouble: str | None = None
        self._failed_step: str | None = None
        self._pause = RunPause(is_on=False)
        self._steered: bool | None = None  # whether all orders pause, as far as this process knows
        self._ending: RunFinal | None = None  # an end for which there was no room on the disk
        self._later: list[tuple[float, Work]] = []  # pieces to be tried again, and when
        self._asked_at_s: dict[str, float] = {}  # since when something of a step waits for an order
        self._run.load()
        for order in orders_of(settings.jobs_dir, spec.run_id):
            if order.step_id in self._run.steps:
                self._run.order_placed(order)
                self._orders.add(order)
        is_begun = any(state.done for state in self._run.steps.values()) or len(self._orders)
        if is_begun and self._started_at_ms is None:  # whoever began it could not note when
            self._started_at_ms = spec.created_at_ms
        self._fatal_steps = [id for id, each in self._run.steps.items() if each.report.fatal]

    def close(self) -> None:
        """Let somebody else go on."""
        self._completion.close()

    def note(self, trouble: str | None) -> None:
        """Say what holds it up, until something is made again."""
        if trouble is not None and trouble != self._trouble:
            logger.warning("%s: %s", self.run_id, trouble)
        self._trouble = trouble

    def look_after(self) -> bool:
        """Do what is due about the run beside its work; returns whether nothing is left to do.

        Raises:
            StorageFull: there is no room for something; it is tried again at the next look.
        """
        final = self._directory.durable_final()
        if final is not None:
            return self._settle(final)
        try:
            self._advance()
        except StorageFull as error:
            self.note(f"storage_full: {error}")
        self._news.tell(self._report(self._state))
        return False

    def _advance(self) -> None:
        if self._ending is not None:
            self._directory.write_final(self._ending)
            return
        while self._fatal_steps:  # whoever advanced the run before died before it could end it
            self._heed_faults(self._fatal_steps.pop())
            return
        if self._started_at_ms is not None and not self._is_start_noted:
            self._directory.note_started(self._started_at_ms)
            self._is_start_noted = True
        self._heed_pause()
        self._heed_control()
        try:
            for order, share in self._orders.look():
                self._run.share_landed(order, share)
        except OrderStopped as error:
            self._end(JobState.FAILED, str(error))
            return
        if not self._pause.is_on:
            self._place_orders()
        if self._run.is_complete:
            self._complete()

    def next_work(self) -> Work | None:
        """Choose what to do next, if anything can be done now."""
        work = self._choose_work()
        if not isinstance(work, AskOrSettle):
            return work
        models = self._run.plan.step(work.step_id).models
        return msgspec.structs.replace(work, revisions=self._revisions.of(models))

    def _choose_work(self) -> Work | None:
        if self._pause.is_on or self._ending is not None:
            return None
        now_s = time.monotonic()
        for due in self._later:
            if due[0] <= now_s:
                self._later.remove(due)
                return due[1]
        shard = self._run.next_emit()
        if shard is not None:
            return Emit(self.run_id, shard)
        return self._run.next_work(WINDOW_ROWS)

    def take(self, work: Work, outcome: Outcome) -> None:
        """Take what came of a piece of work."""
        self._started_at_ms = self._started_at_ms or _now_ms()
        match outcome:
            case Made(report) if isinstance(work, Emit):
                self._run.emit_done(work.shard, report)
            case Made(report) if isinstance(work, Compute | AskOrSettle):
                self.note(None)
                self._run.stands(work.step_id, work.shard, report)
                self._heed_faults(work.step_id)
            case Gathered(num_shards, report) if isinstance(work, Gather):
                self._run.gathered(work.step_id, num_shards, report)
                self._heed_faults(work.step_id)
            case Wanted(asks) if isinstance(work, AskOrSettle):
                state = self._run.steps[work.step_id]
                for model in dict.fromkeys(ask.model for ask in asks):
                    wanted = [ask for ask in asks if ask.model == model]
                    state.waiting.setdefault(model, []).append((work.shard, wanted))
                    state.wait_for(work.shard)
                state.num_waiting += len(asks)
                state.busy.discard(work.shard)
                self._asked_at_s.setdefault(work.step_id, time.monotonic())
            case Missing(step_id, shard, message):
                self.note(message)
                self._run.put_back(work)
                self._run.lost(step_id, shard)
            case Broken(message, is_lasting) if is_lasting:
                is_output = isinstance(work, Emit)
                self._fail(self._run.plan.output_step if is_output else work.step_id, message)
            case Broken(message):
                self.note(message)
                self._later.append((time.monotonic() + RETRY_S, work))
            case _:
                raise TypeError(f"{outcome} cannot come of {work}")

    @property
    def _state(self) -> JobState:
        if self._pause.is_on:
            return JobState.PAUSED
        return JobState.QUEUED if self._started_at_ms is None else JobState.RUNNING

    def _report(self, state: JobState) -> RunReport:
        return report_of(
            self._run,
            state,
            started_at_ms=self._started_at_ms,
            trouble=self._pause.reason if self._pause.is_on else self._trouble,
            failed_step=self._failed_step,
        )

    def _place_orders(self) -> None:
        for state in self._run.steps.values():
            for model in list(state.waiting):
                self._place_order(state, model)

    def _place_order(self, state: StepState, model: str) -> None:
        """Order what a step wants of a model, unless more of it is about to come."""
        waiting = state.waiting[model]
        step_id = state.step.id
        num_rows = sum(len(asks) for _, asks in waiting)
        has_waited = time.monotonic() - self._asked_at_s.get(step_id, 0.0) > ORDER_WAIT_S
        is_due = num_rows >= ORDER_ROWS or has_waited or state.has_asked_all
        if not is_due and len(self._orders):
            return
        shares = waiting[:]
        spec = place_order(
            self._numbers,
            self._spec,
            step_id,
            state.place,
            shares,
            self._control.priority,
        )
        del state.waiting[model]
        state.num_waiting -= num_rows
        for shard, _ in shares:
            state.was_answered(shard)  # or will be: from here on the order stands for them
        if not state.waiting:
            self._asked_at_s.pop(step_id, None)
        order = order_of(spec)
        self._run.order_placed(order)
        self._orders.add(order)
        try:
            self._table.create(spec)
        except redis.RedisError as error:  # the keeper will find the directory
            logger.warning("%s is not in the job table yet: %s", spec.job_id, error)

    def _heed_faults(self, step_id: str) -> None:
        """End the run if a step failed that may not, and pause it if too many rows have."""
        fatal = self._run.steps[step_id].report.fatal
        if fatal is not None:
            row_id, code, message = fatal
            self._fail(step_id, f"row {row_id}: {code}: {message}")
        else:
            self._judge_errors()

    def _judge_errors(self) -> None:
        """Pause when too many rows of a step failed since the run was last resumed."""
        rate = self._spec.workflow.max_error_rate
        if rate is None or self._pause.is_on:
            return
        reason = too_many(self._report(self._state).steps, rate, self._pause.judged_from)
        if reason is not None:
            self._directory.write_pause(replace(self._pause, is_on=True, reason=reason))
            self._heed_pause()  # before anything more is begun

    def _heed_control(self) -> None:
        """Let the orders have the priority of the run, should that have changed."""
        wanted = read_control(self._directory, self._spec)
        if wanted.priority != self._control.priority:
            orders = self._table.snapshots(self._orders.job_ids)
            try:
                prioritize(self._settings, self._table, orders, wanted.priority)
            except JobBusy:
                return  # at the next look
        self._control = wanted

    def _heed_pause(self) -> None:
        """Let the orders pause, or go on, as the run does."""
        wanted = self._directory.read_pause()
        if self._steered != wanted.is_on:
            self._steered = wanted.is_on if self._steer_orders(is_on=wanted.is_on) else None
        if wanted != self._pause:
            self._pause = wanted
            self._news.status(self._state, wanted.reason)

    def _steer_orders(self, *, is_on: bool) -> bool:
        """Pause the orders that go on, or the other way round; returns whether all could be."""
        job_ids, are_all = self._orders.job_ids, True
        for job_id, job in zip(job_ids, self._table.snapshots(job_ids), strict=True):
            if job is None:
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

    def _fail(self, step_id: str, message: str) -> None:
        self._failed_step = step_id
        self._end(JobState.FAILED, f"step {step_id}: {message}")

    def _complete(self) -> None:
        has_faults = any(state.report.failed for state in self._run.steps.values())
        state = JobState.COMPLETED_WITH_ERRORS if has_faults else JobState.COMPLETED
        is_complete = self._completion.go_on(state, self._report(state), len(self._run.emitted))
        self.note(self._completion.trouble)
        if is_complete:
            self._end(state)
        elif self._completion.lost:
            self._run.output_lost(self._completion.lost)

    def _end(self, state: JobState, error: str | None = None) -> None:
        self._ending = RunFinal(state, _now_ms(), error, self._report(state))
        self._directory.write_final(self._ending)

    def _settle(self, final: RunFinal) -> bool:
        """Leave nothing behind of a run that has ended; returns whether nothing is left."""
        for job_id in self._orders.job_ids:  # of a complete run there are none
            try:
                cancel(self._settings, self._table, job_id)
            except (UnknownJob, CorruptJob) as error:
                logger.warning("%s cannot be cancelled: %s", job_id, error)
            except JobBusy:
                return False
        if final.state not in (JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS):
            self._completion.withdraw()
        self._news.tell(self._report(final.state), at_once=True)
        self._news.status(final.state, final.error)
        self._news.done(final.state)
        for place in (self._run.results.output, *map(self._run.results.step, self._run.steps)):
            place.remove_empty_temporary()
        shutil.rmtree(self._directory.path / "scratch", ignore_errors=True)
        self._directory.settle()
        return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
