"""Rows that kill their engine, from the first crash to the verdict: all parts but the process."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from penstock.engine.outputs import Request, StepOutput
from penstock.jobs.accusation import accuse
from penstock.jobs.engine_loop import EngineLoop
from penstock.jobs.engine_process import Loss
from penstock.jobs.fake_engine import FakeEngine, FakeModel
from penstock.jobs.frames import Progress, RunShard, ShardProgress, ToEngine, TrySuspects
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import LandedRow
from penstock.jobs.model import JobSpec, ShardRef, TaskSpec
from penstock.jobs.prompt_encoder import PromptEncoder
from penstock.jobs.quarantine_lane import QuarantineLane
from penstock.jobs.settings import Settings
from penstock.jobs.shard_reader import ShardReader
from penstock.jobs.shard_run import ShardRun
from penstock.jobs.submission import RowsSource, SubmitRequest, submit

MODEL = "fake:step_ms=0,tokens=3"
SHARD_ROWS = 16
OPEN_SHARDS = 3


class Died(Exception):
    """The engine process is no more."""


class Mortal(FakeEngine):
    """Dies of prompts that hold [[crash]], and remembers what has ended in any of its kind."""

    def __init__(self, ended: Counter[str]) -> None:
        super().__init__(FakeModel.from_name(MODEL), slots=24)
        self.inside: dict[str, str] = {}
        self.ended = ended

    def add(self, request: Request) -> StepOutput | None:
        text = "".join(map(chr, request.prompt_token_ids))
        self.inside[request.request_id] = text
        return super().add(request)

    def step(self) -> list[StepOutput]:
        self._admit()
        if any("[[crash]]" in self.inside[each.request.request_id] for each in self._running):
            raise Died
        outputs = super().step()
        for output in outputs:
            if output.finish_reason is not None:
                self.ended[self.inside.pop(output.request_id)] += 1
        return outputs


class Worker:
    """Runs jobs to their end in one engine after another, as custody and the engine process do."""

    def __init__(self, settings: Settings, specs: Sequence[JobSpec], *, may_risk: bool) -> None:
        self.settings = settings
        self.may_risk = may_risk
        self.landed: dict[ShardRef, list[LandedRow]] = {}
        self.ended: Counter[str] = Counter()
        self.num_lives = 0
        self.open: dict[ShardRef, ShardRun] = {}
        self._waiting = [ShardRef(spec.job_id, i) for spec in specs for i in range(spec.num_shards)]
        self._kept: list[ShardRef] = []

    def run(self) -> int:
        """Run until everything has landed, or only suspects are left that may not be tried."""
        while self._waiting or self._kept:
            try:
                self._live()
                break
            except Died:
                loss = Loss("signal 6", process=os.getpid())
                attempts = dict.fromkeys(self.open, self.num_lives)
                accuse(self.settings.jobs_dir, attempts, loss, is_proof=True)
                self._kept = list(self.open)
        return self.num_lives - 1

    def _live(self) -> None:
        self.num_lives += 1
        engine = Mortal(self.ended)
        loop = EngineLoop(
            engine,
            engine.tokenizer,
            send=lambda frame: None,
            on_shard_done=self._land,
            num_unread_shards=lambda: 0,
        )
        loop.prove()
        reader = ShardReader(
            self.settings.jobs_dir,
            "w1",
            PromptEncoder(engine.tokenizer),
            loop.inbox.put,
            lambda outcome: None,
        )
        loop.inbox.put(TrySuspects(self.may_risk))
        self.open, kept = {}, self._kept
        for ref in kept:
            self._open(ref, reader)
        num_idle_turns = 0
        while self.open or self._waiting:
            while self._waiting and self._num_counted() < OPEN_SHARDS:
                self._open(self._waiting.pop(0), reader)
            loop.turn()
            _check_exclusive(engine, self.open.values())
            num_idle_turns = 0 if engine.has_work or self._waiting else num_idle_turns + 1
            if num_idle_turns > 2 and not self.may_risk:
                return

    def _open(self, ref: ShardRef, reader: ShardReader) -> None:
        order = RunShard(ref.job_id, ref.index, self.num_lives)
        run = reader._run_of(order, reader._open(ref.job_id))
        self.open[ref] = run
        reader._on_prepared(run)

    def _land(self, run: ShardRun) -> None:
        ref = ShardRef(run.order.job_id, run.order.index)
        assert ref not in self.landed, "it landed twice"
        self.landed[ref] = list(run.landed_rows())
        run.remove_traces()
        del self.open[ref]
        self._kept = [other for other in self._kept if other != ref]

    def _num_counted(self) -> int:
        return sum(1 for run in self.open.values() if not run.suspects.num_narrow)


def _check_exclusive(engine: Mortal, runs: Iterable[ShardRun]) -> None:
    """While suspects are by themselves, nothing else is in the engine."""
    for run in runs:
        if run.suspects.is_alone:
            names = {request_id for request_id in engine.inside if request_id != "canary"}
            assert names <= set(run.unfinished())
            assert {int(name.rsplit("/")[-1]) for name in names} <= run.suspects.rows


@pytest.fixture
def jobs(settings: Settings, table: JobTable) -> "dict[str, JobSpec]":
    """Two jobs; in the first of them three rows kill."""
    poison = {3, 20, 21}
    texts = [f"row {n}" + " [[crash]]" * (n in poison) for n in range(5 * SHARD_ROWS)]
    others = [f"other {n}" for n in range(3 * SHARD_ROWS)]
    specs = {}
    for name, prompts in (("bad", texts), ("good", others)):
        task = TaskSpec(model=MODEL, prompt="{{ row.text }}")
        source = RowsSource([{"text": text} for text in prompts])
        request = SubmitRequest(task, shard_rows=SHARD_ROWS)
        specs[name] = submit(settings, table, source, request).spec
    return specs


def test_culprits_fail_alone_and_nothing_that_has_ended_is_computed_again(
    settings: Settings, jobs: dict[str, JobSpec]
) -> None:
    worker = Worker(settings, list(jobs.values()), may_risk=True)
    num_crashes = worker.run()
    rows = [row for landed in worker.landed.values() for row in landed]
    assert len(rows) == 8 * SHARD_ROWS
    failed = {row.row_index: row for row in rows if row.error is not None}
    assert set(failed) == {3, 20, 21}
    assert {row.error.code for row in failed.values() if row.error} == {"poisoned_row"}
    assert "2 times while it ran this row alone: signal 6" in str(failed[3].error)
    assert num_crashes <= 3 * 6
    del worker.ended["a"]  # the canaries
    assert set(worker.ended.values()) == {1}
    assert not list((settings.jobs_dir / jobs["bad"].job_id / "suspects").iterdir())
    assert not list((settings.jobs_dir / jobs["bad"].job_id / "unlanded").iterdir())


def test_where_suspects_may_not_be_tried_all_others_go_on(
    settings: Settings, jobs: dict[str, JobSpec]
) -> None:
    worker = Worker(settings, list(jobs.values()), may_risk=False)
    num_crashes = worker.run()
    assert num_crashes <= 3 * 2  # once, and once more by itself
    landed = {ref.job_id: 0 for ref in worker.landed}
    for ref in worker.landed:
        landed[ref.job_id] += 1
    assert landed == {jobs["bad"].job_id: 3, jobs["good"].job_id: 3}
    assert {ref.index for ref in worker.open} == {0, 1}


def report(*, running: int = 0, suspects: int = 0) -> Progress:
    shards = (ShardProgress("job_1", 0, 1, 0, 64, 0, 0, suspects=suspects),)
    return Progress(1, running, 0, 0, 1, 0.0, 0, shards=shards)


class Told:
    """What a lane told its engine process."""

    def __init__(self) -> None:
        self.is_on: list[bool] = []

    def send(self, frame: ToEngine) -> bool:
        assert isinstance(frame, TrySuspects)
        self.is_on.append(frame.is_on)
        return True


def test_one_worker_at_a_time_tries_suspects(tmp_path: Path) -> None:
    first, second = Told(), Told()
    ours, theirs = QuarantineLane(tmp_path, first.send), QuarantineLane(tmp_path, second.send)
    for _ in range(2):
        ours.take(report(suspects=5))
        theirs.take(report(suspects=5))
    assert (first.is_on, second.is_on) == ([True], [])
    ours.engine_lost()
    ours.engine_ready()  # it keeps the lane, and the new engine must be told
    ours.take(report(suspects=1))
    assert first.is_on == [True, True]
    for _ in range(9):
        ours.take(report())
    theirs.take(report(suspects=5))
    assert (first.is_on[-1], second.is_on) == (False, [True])
    theirs.leave()
    theirs.leave()  # twice does no harm
    assert ours.enter()
    ours.leave()


def test_a_stopped_holder_does_not_keep_others_from_trying_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 100.0
    monkeypatch.setattr("penstock.jobs.quarantine_lane.time.monotonic", lambda: now_s)
    lock = tmp_path / "quarantine.lock"
    first, second = Told(), Told()
    stopped = QuarantineLane(tmp_path, first.send)
    next_one = QuarantineLane(tmp_path, second.send)
    stopped.take(report(suspects=5))
    os.utime(lock, ns=(1, 1))
    next_one.take(report(suspects=5))
    stopped.take(report(suspects=5))  # it lives still, and its file tells
    assert lock.stat().st_mtime_ns > 1
    now_s += 59.0
    next_one.take(report(suspects=5))
    now_s += 59.0
    next_one.take(report(suspects=5))
    assert second.is_on == []
    now_s += 2.0
    next_one.take(report(suspects=5))
    assert second.is_on == [True] and "has not stirred" in caplog.text
    stopped.leave()
    next_one.leave()


def test_an_engine_works_before_it_risks_the_next_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("penstock.jobs.quarantine_lane.time.monotonic", lambda: now_s)
    told = Told()
    lane = QuarantineLane(tmp_path, told.send)
    lane.engine_lost()
    now_s = 105.0
    lane.engine_lost()  # the next one could not be loaded
    now_s = 110.0
    lane.engine_ready()
    now_s = 149.0
    lane.take(report(running=3, suspects=5))
    assert told.is_on == []
    lane.take(report(suspects=5))  # nothing else to do
    assert told.is_on == [True]
    lane.engine_lost()
    lane.engine_ready()
    now_s = 150.0
    lane.take(report(running=3, suspects=5))
    assert told.is_on == [True, True]
    lane.leave()


def test_without_a_lock_file_suspects_are_tried_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").touch()
    told = Told()
    QuarantineLane(tmp_path / "data", told.send).take(report(suspects=5))
    assert told.is_on == [True] and "without a lock" in caplog.text
