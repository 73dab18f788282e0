"""The processes of a small installation: clients, an API, workers with their engines.

What each does is the product's own code, called step by step; what is simulated is what lies
between: messages, frames, an engine that answers at once or later. A process that dies is started
again under another name.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from penstock.jobs.custody import Custody
from penstock.jobs.durable import StorageFull
from penstock.jobs.ending import cancel
from penstock.jobs.engine_process import Loss
from penstock.jobs.errors import CorruptJob, InvalidJob, UnknownJob
from penstock.jobs.events import JobEvents
from penstock.jobs.found_part import found_counts
from penstock.jobs.frames import AbortShard, RunShard, ShardFailed, ShardLanded, ToEngine, Trouble
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.messages import send_finalize
from penstock.jobs.model import JobState, RequestError, RowStatus, ShardRef, TaskSpec
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.retrying import retries_of, retry
from penstock.jobs.settings import Settings
from penstock.jobs.steering import change, pause, resume
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.tasks import FINALIZE, complete
from penstock.jobs.workers import WorkerRegister

from ...jobs.idle_workers import idle_worker
from .client import StoreClient
from .hints import HintApp
from .ledger import Ledger, Order, expected_rows
from .world import Process, World

MODEL = "model"
MAX_OPEN_SHARDS = 2  # of one worker


@dataclass(frozen=True, slots=True)
class Site:
    """What all processes of the installation share."""

    world: World
    settings: Settings
    client: StoreClient
    app: HintApp
    ledger: Ledger
    skew_s: float  # wall clocks are off by up to this

    def table(self) -> JobTable:
        return JobTable(self.client, self.app.keys)


class Turns(Executor):
    """Runs what it is given as steps of a thread of its own."""

    def __init__(self, world: World, process: Process) -> None:
        self._waiting: list[Callable[[], None]] = []
        world.spawn(process, "turns", self._step, 0.3)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # as a pool of threads hands it on
                future.set_exception(error)

        self._waiting.append(run)
        return future

    def _step(self) -> float:
        if self._waiting:
            self._waiting.pop(0)()
        return 0.6


class Api:
    """Takes the clients' orders, and keeps the queue."""

    def __init__(self, site: Site, name: str) -> None:
        self.process = _process(site, name)
        self._site = site
        self._table = site.table()
        _keep(site, self.process)

    def submit(self, order: Order) -> None:
        """Accept an order; it is acknowledged when this returns."""
        rows = [{"text": f"row {number}"} for number in range(order.num_rows)]
        request = SubmitRequest(
            TaskSpec(model=MODEL, prompt="{{ row.text }}"),
            idempotency_key=order.key,
            shard_rows=order.shard_rows,
            max_error_rate=order.max_error_rate,
            error_rate_after=2,
            metadata={"failing": " ".join(map(str, order.failing))},
        )
        submission = submit(self._site.settings, self._table, RowsSource(rows), request)
        if order.job_id not in (None, submission.spec.job_id):
            self._site.ledger.fail(f"{order.key} made {order.job_id}, {submission.spec.job_id}")
        order.job_id = submission.spec.job_id

    def steer(self, order: Order, verb: str) -> bool:
        """Do to an order's job what its client asks for; False if that must be asked again."""
        settings, table, job_id = self._site.settings, self._table, order.job_id
        assert job_id is not None
        match verb:
            case "cancel":
                order.may_end_early = True
                cancel(settings, table, job_id)
            case "pause":
                pause(settings, table, job_id)
            case "resume":
                resume(settings, table, job_id)
            case "prioritize":
                with suppress(InvalidJob):  # it has ended
                    change(settings, table, job_id, priority=1)
            case "hurry":
                order.may_end_early = True
                self._set_deadline(job_id, self._site.world.random.uniform(0.5, 8.0))
            case "take time":
                self._set_deadline(job_id, 3600.0)
            case "attend":
                return self._attend(job_id)
            case "retry":
                return self._retry(order, job_id)
            case _:
                raise ValueError(f"a client cannot {verb}")
        return True

    def _set_deadline(self, job_id: str, in_s: float) -> None:
        deadline_ms = self._site.world.now_us // 1000 + int(in_s * 1000)
        with suppress(InvalidJob):  # it has ended
            change(self._site.settings, self._table, job_id, deadline_ms=deadline_ms)

    def _attend(self, job_id: str) -> bool:
        """Let a job go on that paused because of its errors, until it has ended."""
        snapshot = self._table.snapshot(job_id)
        if snapshot is not None and snapshot.state is JobState.PAUSED:
            resume(self._site.settings, self._table, job_id)
        return snapshot is not None and snapshot.state.is_final

    def _retry(self, order: Order, job_id: str) -> bool:
        try:
            order.retry_ids.add(retry(self._site.settings, self._table, job_id).job_id)
        except InvalidJob as error:
            if error.param == "job_id":  # it has not ended
                return False
            # There is nothing left to retry: an earlier wish, answered by nobody, has done it.
            order.retry_ids.update(retries_of(JobDir(self._site.settings.jobs_dir, job_id)))
        order.wants_retry = False
        return True


class Engine:
    """A worker's engine process: takes shards, computes, lands, says how it ended."""

    def __init__(self, site: Site, worker: "Worker", name: str) -> None:
        self.process = _process(site, name)
        self._site = site
        self._worker = worker
        self._orders: list[RunShard] = []
        self._done_at_us: dict[RunShard, int] = {}
        site.world.spawn(self.process, "engine", self._step, 0.2)

    def send(self, frame: ToEngine) -> None:
        match frame:
            case RunShard():
                self._orders.append(frame)
            case AbortShard(job_id, index, attempt):
                self._orders = [
                    each
                    for each in self._orders
                    if (each.job_id, each.index, each.attempt) != (job_id, index, attempt)
                ]

    def _step(self) -> float:
        for order in list(self._orders):
            done_at_us = self._done_at_us.get(order)
            if done_at_us is None:
                self._prepare(order)
                return 0.05
            if done_at_us <= self._site.world.now_us:
                self._end(order, self._land(order))
                return 0.05
        return 0.25

    def _prepare(self, order: RunShard) -> None:
        try:
            spec = JobDir(self._site.settings.jobs_dir, order.job_id).read_spec()
            counts = found_counts(ResultsDir.of(spec), order.index)
        except (UnknownJob, CorruptJob) as error:
            self._end(order, _failed(order, str(error), Trouble.LASTING))
            return
        if counts is not None:
            self._end(order, ShardLanded(order.job_id, order.index, order.attempt, counts))
            return
        ref = ShardRef(order.job_id, order.index)
        self._site.ledger.computes(ref)
        takes_s = self._site.world.random.choice((0.1, 0.5, 2.0, 6.0))
        self._done_at_us[order] = self._site.world.now_us + int(takes_s * 1e6)

    def _land(self, order: RunShard) -> ShardLanded | ShardFailed:
        try:
            spec = JobDir(self._site.settings.jobs_dir, order.job_id).read_spec()
            rows = [_landed(*row) for row in expected_rows(self._site.settings, spec, order.index)]
            counts = land(spec, order.index, order.attempt, rows)
        except StorageFull as error:
            return _failed(order, str(error), Trouble.STORAGE)
        except Exception as error:  # as the lander does
            return _failed(order, str(error), Trouble.UNEXPECTED)
        return ShardLanded(order.job_id, order.index, order.attempt, counts)

    def _end(self, order: RunShard, frame: ShardLanded | ShardFailed) -> None:
        self._site.world.reach()
        if order in self._orders:
            self._orders.remove(order)
        self._worker.take(frame)


class Worker:
    """One worker process: takes hints, holds shards, keeps the queue."""

    def __init__(self, site: Site, name: str) -> None:
        self.process = _process(site, name)
        self.process.on_death = self._die
        self._site = site
        self._table = site.table()
        self._register = WorkerRegister(site.client, site.app.keys)
        self._open: set[ShardRef] = set()
        self._to_complete: list[str] = []
        self._num_engines = 0
        self._engine: Engine | None = None
        self._custody = Custody(
            site.settings,
            self._table,
            JobEvents(site.client, site.app.keys),
            name,
            send=self._send,
            on_job_landed=self._hint_that_all_landed,
        )
        world = site.world
        world.spawn(self.process, "custody", self._serve_custody, 0.05)
        world.spawn(self.process, "consumer", self._consume, 0.1)
        world.spawn(self.process, "chores", self._do_chores, 0.2)
        world.spawn(self.process, "reporter", self._report, 0.0)
        _keep(site, self.process)
        self._start_engine()

    @property
    def engine(self) -> Process | None:
        """The engine process that serves, if one does."""
        return self._engine.process if self._engine else None

    @property
    def open_shards(self) -> list[ShardRef]:
        """What it took from the queue and has not acknowledged."""
        return sorted(self._open, key=lambda ref: (ref.job_id, ref.index))

    def take(self, frame: ShardLanded | ShardFailed) -> None:
        """Hear from the engine."""
        match frame:
            case ShardLanded():
                self._custody.landed(frame)
            case ShardFailed():
                self._custody.failed(frame)

    def lose_engine(self) -> None:
        """Kill the engine process; another one is started a little later."""
        if self._engine is None:
            return
        self._site.world.crash(self._engine.process)
        self._engine = None
        self._custody.engine_lost(Loss("simulated"))
        self._site.world.spawn(self.process, "engine-starter", self._restart_engine, 1.0)

    def _restart_engine(self) -> float:
        if self._engine is None:
            self._start_engine()
        return 1e6

    def _start_engine(self) -> None:
        self._num_engines += 1
        name = f"{self.process.name}-engine{self._num_engines}"
        self._engine = Engine(self._site, self, name)
        self._engine.process.on_death = self._note_engine_death

    def _note_engine_death(self) -> None:
        """An engine that died by itself: its worker sees the end of the pipe."""
        if self._engine is not None and not self.process.is_dead:
            self.lose_engine()

    def _die(self) -> None:
        if self._engine is not None:
            self._site.world.crash(self._engine.process)

    def _send(self, frame: ToEngine) -> bool:
        if self._engine is None:
            return False
        self._engine.send(frame)
        return True

    def _serve_custody(self) -> float:
        self._custody.step()
        return 0.1 if self._open else 0.4

    def _hint_that_all_landed(self, job_id: str) -> None:
        app: Any = self._site.app  # as much of one as publishes
        send_finalize(app, job_id)

    def _consume(self) -> float:
        if len(self._open) >= MAX_OPEN_SHARDS:
            return 0.3
        try:
            hint = self._site.app.take(self._site.app.control_lane)
            if hint is not None and hint.task == FINALIZE:
                self._to_complete.append(hint.kwargs["job_id"])
            hint = self._site.app.take(self._site.app.lane("bulk", MODEL))
        except redis.RedisError:
            return 1.0
        if hint is None:
            return 0.4
        ref = ShardRef(hint.kwargs["job_id"], hint.kwargs["index"])
        self._open.add(ref)
        self._custody.open(ref, lambda _: self._open.discard(ref))
        return 0.1

    def _do_chores(self) -> float:
        if self._to_complete:
            try:
                complete(self._site.settings, self._table, self._to_complete.pop(0))
            except Exception as error:  # the task fails, its message is acknowledged all the same
                self._site.world.note(f"finalize failed: {type(error).__name__}")
        return 0.7

    def _report(self) -> float:
        info = idle_worker(
            self.process.name, MODEL, host="simulated", slots=64, started_at_ms=0, proved_at_ms=0
        )
        try:
            self._register.announce(info)
        except redis.RedisError:
            return 0.5
        return 1.5


def _process(site: Site, name: str) -> Process:
    skew_s = site.world.random.choice((-site.skew_s, 0.0, site.skew_s))
    return Process(name, clock_skew_s=skew_s)


def _keep(site: Site, process: Process) -> None:
    """Give a process its keeper."""
    app: Any = site.app  # as much of one as publishes
    keeper = Keeper(
        site.settings,
        process.name,
        app=app,
        client=site.client,
        completer=Turns(site.world, process),
    )
    site.world.spawn(process, "keeper", lambda: max(keeper.step(), 0.5), 0.0)


def _landed(row: int, sample: int, status: str, output: str | None) -> LandedRow:
    error = RequestError("simulated", "it failed") if status == RowStatus.FAILED else None
    return LandedRow(row, None, RowStatus(status), output, sample_index=sample, error=error)


def _failed(order: RunShard, message: str, trouble: Trouble) -> ShardFailed:
    return ShardFailed(order.job_id, order.index, order.attempt, message, trouble)
