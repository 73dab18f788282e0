"""One run while it is advanced: what is to be done next, how it ends, and what is told about it.

Knows the run's directory; what it asks of models, `RunOrders` sees to. `Advancer` decides when it
gets a turn; what it hands to the workshop, and takes from there, are pieces of `work`.
"""

import logging
import shutil
import time
from dataclasses import replace

import msgspec

from ...durable import StorageFull
from ...events import JobEvents
from ...job_table import JobTable
from ...model import JobState
from ...settings import Settings
from ..model_revisions import ModelRevisions
from ..orders.open_orders import OrderStopped
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
from .run_control import read_control
from .run_dir import RunDir, RunFinal, RunPause
from .run_orders import RunOrders
from .run_state import RunState
from .telling import RunNews

WINDOW_ROWS = 16_384  # that a step may have asked for, and not been answered
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
        self._revisions = revisions
        self._directory = directory
        spec = directory.read()
        self.run_id = spec.run_id
        self._spec = spec
        self._run = RunState(spec, plan_of(spec))
        self._completion = Completion(settings, spec, self._run.plan)
        self._orders = RunOrders(settings, table, spec, self._run)
        self._news = RunNews(table, events, spec.run_id)
        self._started_at_ms = directory.read_started()
        self._is_start_noted = self._started_at_ms is not None
        self._trouble: str | None = None
        self._failed_step: str | None = None
        self._pause = RunPause(is_on=False)
        self._ending: RunFinal | None = None  # an end for which there was no room on the disk
        self._later: list[tuple[float, Work]] = []  # pieces to be tried again, and when
        self._run.load()
        self._orders.load()
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
        self._orders.heed(read_control(self._directory, self._spec))
        try:
            self._orders.look()
        except OrderStopped as error:
            self._end(JobState.FAILED, str(error))
            return
        if not self._pause.is_on:
            self._orders.place()
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
                self._orders.want(work.step_id, work.shard, asks)
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

    def _heed_pause(self) -> None:
        """Let the orders pause, or go on, as the run does."""
        wanted = self._directory.read_pause()
        self._orders.steer(is_on=wanted.is_on)
        if wanted != self._pause:
            self._pause = wanted
            self._news.status(self._state, wanted.reason)

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
        if not self._orders.cancel_all():
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
