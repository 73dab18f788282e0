"""Custody on its own: table and disk are real, the engine is whatever a test says it did."""

import queue
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.jobs.custody import MAX_FAILURES, Custody
from penstock.jobs.durable import StorageFull
from penstock.jobs.ending import cancel
from penstock.jobs.engine_process import Loss
from penstock.jobs.events import JobEvents
from penstock.jobs.frames import AbortShard, RunShard, ShardFailed, ShardLanded, ToEngine, Trouble
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import land
from penstock.jobs.model import Counts, JobSpec, JobState, ShardRef
from penstock.jobs.part_file import read_part
from penstock.jobs.results import read_results
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.suspects import Suspects
from penstock.jobs.tasks import ShardBroken, ShardReturned
from tests.waiting import PATIENCE_S

from .conftest import JobMaker
from .small_jobs import answered


class Holder:
    """A custody, what it told the engine, and how each shard ended."""

    def __init__(self, settings: Settings, table: JobTable) -> None:
        self.settings = settings
        self.table = table
        self.sent: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        self.outcomes: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()
        self.on_job_landed: Callable[[str], None] = lambda job_id: None
        self.custody = Custody(
            settings,
            table,
            JobEvents(table.redis, table.keys),
            "w1",
            send=self._send,
            on_job_landed=lambda job_id: self.on_job_landed(job_id),
        )
        self.custody.start()

    def _send(self, frame: ToEngine) -> bool:
        self.sent.put(frame)
        return True

    def open(self, spec: JobSpec, index: int = 0) -> RunShard:
        self.table.issue(spec.job_id, 100)
        self.custody.open(ShardRef(spec.job_id, index), self.outcomes.put)
        order = self.sent.get(timeout=PATIENCE_S)
        assert isinstance(order, RunShard)
        return order

    def outcome(self) -> str | Exception:
        return self.outcomes.get(timeout=PATIENCE_S)

    def fail(self, order: RunShard, trouble: Trouble) -> None:
        frame = ShardFailed(order.job_id, order.index, order.attempt, "it broke", trouble)
        self.custody.failed(frame)

    def land(self, spec: JobSpec, order: RunShard) -> None:
        with JobDir(self.settings.jobs_dir, spec.job_id).open_input() as sealed:
            rows = [answered(row) for row in sealed.shard(order.index)]
        counts = land(spec, order.index, order.attempt, rows)
        self.custody.landed(ShardLanded(order.job_id, order.index, order.attempt, counts))

    def state(self, spec: JobSpec) -> JobState:
        snapshot = self.table.snapshot(spec.job_id)
        assert snapshot is not None
        return snapshot.state


@pytest.fixture
def holder(settings: Settings, table: JobTable) -> Iterator[Holder]:
    holder = Holder(settings, table)
    yield holder
    holder.custody.close()


def test_a_shard_that_can_never_run_fails_its_job(holder: Holder, make_job: JobMaker) -> None:
    spec = make_job()
    holder.fail(holder.open(spec), Trouble.LASTING)
    assert isinstance(holder.outcome(), ShardBroken)
    assert holder.state(spec) is JobState.FAILED
    final = JobDir(holder.settings.jobs_dir, spec.job_id).read_final()
    assert final is not None and final.error == "shard 0: it broke"


def test_a_shard_that_fails_again_and_again_fails_its_job(
    holder: Holder, make_job: JobMaker
) -> None:
    spec = make_job()
    for _ in range(MAX_FAILURES):  # handed back however often, it has not failed
        holder.open(spec)
        holder.custody.abandon(ShardRef(spec.job_id, 0))
        assert isinstance(holder.sent.get(timeout=PATIENCE_S), AbortShard)
    for number in range(1, MAX_FAILURES + 1):
        order = holder.open(spec)
        assert order.tries == MAX_FAILURES + number
        holder.fail(order, Trouble.UNEXPECTED)
        is_last = number == MAX_FAILURES
        assert isinstance(holder.outcome(), ShardBroken if is_last else ShardReturned)
        assert holder.state(spec) is (JobState.FAILED if is_last else JobState.RUNNING)
        holder.table.release(ShardRef(spec.job_id, 0), order.attempt)  # or wait for its lease
    assert holder.custody.num_retries == 2 * MAX_FAILURES - 1


def test_a_shard_for_newer_workers_is_handed_back_however_often(
    holder: Holder, make_job: JobMaker
) -> None:
    spec = make_job()
    for _ in range(MAX_FAILURES + 1):
        order = holder.open(spec)
        holder.fail(order, Trouble.NEWER)
        assert isinstance(holder.outcome(), ShardReturned)
        snapshot = holder.table.snapshot(spec.job_id)
        assert snapshot is not None and snapshot.state is JobState.RUNNING
        assert snapshot.error == "a worker is too old for this job: it broke"
        holder.table.release(ShardRef(spec.job_id, 0), order.attempt)  # or wait for its lease


def test_a_shard_of_a_job_whose_directory_is_gone_is_over(
    holder: Holder, make_job: JobMaker
) -> None:
    spec = make_job()
    order = holder.open(spec)
    shutil.rmtree(holder.settings.jobs_dir / spec.job_id)
    holder.fail(order, Trouble.LASTING)
    assert isinstance(holder.outcome(), ShardBroken)
    assert holder.state(spec) is JobState.FAILED


def test_a_full_disk_puts_the_end_of_a_job_off(
    holder: Holder, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFull(Path("final.json"))

    spec = make_job()
    order = holder.open(spec)
    monkeypatch.setattr("penstock.jobs.job_affairs.end", full)
    holder.fail(order, Trouble.LASTING)
    assert isinstance(holder.outcome(), ShardReturned)
    snapshot = holder.table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.state is JobState.RUNNING
    assert "no space left" in (snapshot.error or "")


def test_a_hint_that_cannot_be_sent_keeps_no_shard_open(
    holder: Holder, make_job: JobMaker, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(job_id: str) -> None:
        raise OSError("no broker")

    spec = make_job(num_rows=4)
    holder.on_job_landed = broken
    holder.land(spec, holder.open(spec))
    assert holder.outcome() == "4 rows · 12 tokens"
    assert holder.state(spec) is JobState.LANDING
    holder.custody.close()
    assert "no broker" in caplog.text


def begin(
    holder: Holder,
    order: RunShard,
    process: int,
    *,
    on_trial: Sequence[int] = (),
    is_alone: bool = False,
) -> None:
    """Do what an engine process does to a shard's traces when its rows go to the engine."""
    ref = ShardRef(order.job_id, order.index)
    path = holder.settings.jobs_dir / ref.job_id / "unlanded"
    path.mkdir(exist_ok=True)
    (path / f"{ref.index}.{order.attempt}.{process}.rows").touch()
    if on_trial:
        suspects = Suspects(holder.settings.jobs_dir, ref)
        suspects.note_crash("before")
        suspects.begin(on_trial)
        suspects.begin_trial()  # a fresh group, by itself
        if not is_alone:
            suspects.note_crash("before")
            suspects.begin(on_trial)
            suspects.begin_trial()


def test_shards_of_a_lost_engine_wait_for_the_next_one(holder: Holder, make_job: JobMaker) -> None:
    spec = make_job()
    orders = [holder.open(spec, index) for index in range(2)]
    begin(holder, orders[0], process=7)
    holder.custody.engine_lost(Loss("signal 6", process=7))
    for order in orders:  # whichever engine has them
        assert holder.sent.get(timeout=PATIENCE_S) == AbortShard(
            order.job_id, order.index, order.attempt
        )
    holder.custody.engine_ready()
    for order in orders:
        assert holder.sent.get(timeout=PATIENCE_S) == replace(order, tries=order.tries + 1)
    for index, num_suspects in enumerate((4, 0)):  # no row of the second was in the engine
        suspects = Suspects(holder.settings.jobs_dir, ShardRef(spec.job_id, index))
        suspects.begin(range(4 * index, 4 * index + 4))
        assert len(suspects.rows) == num_suspects
    holder.land(spec, orders[0])
    assert holder.outcome() == "4 rows · 12 tokens"


def test_shards_go_to_the_next_engine_even_if_nobody_can_be_blamed(
    holder: Holder, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a trace that nobody foresaw")

    spec = make_job()
    order = holder.open(spec)
    monkeypatch.setattr("penstock.jobs.custody.accuse", broken)
    holder.custody.engine_lost(Loss("signal 6", process=7))
    assert isinstance(holder.sent.get(timeout=PATIENCE_S), AbortShard)
    holder.custody.engine_ready()
    assert holder.sent.get(timeout=PATIENCE_S) == replace(order, tries=order.tries + 1)


@pytest.mark.parametrize("is_alone", [True, False])
def test_nobody_is_blamed_beside_a_row_that_ran_alone(
    holder: Holder, make_job: JobMaker, is_alone: bool
) -> None:
    spec = make_job()
    orders = [holder.open(spec, index) for index in range(2)]
    begin(holder, orders[0], process=7, on_trial=[2, 3], is_alone=is_alone)
    begin(holder, orders[1], process=7)
    holder.custody.engine_lost(Loss("signal 6", process=7))
    holder.custody.close()
    beside = Suspects(holder.settings.jobs_dir, ShardRef(spec.job_id, 1))
    beside.begin(range(4, 8))
    assert len(beside.rows) == (0 if is_alone else 4)


def test_a_shard_does_not_wait_for_ever_for_an_engine(
    holder: Holder, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.jobs.custody.KEPT_S", 0.1)
    spec = make_job()
    begin(holder, holder.open(spec), process=7)
    holder.custody.engine_lost(Loss("signal 6", process=7))
    assert isinstance(holder.outcome(), ShardReturned)
    holder.custody.engine_lost(Loss("cannot load", process=8))  # it never had the shard
    suspects = Suspects(holder.settings.jobs_dir, ShardRef(spec.job_id, 0))
    suspects.begin(range(4))
    assert len(suspects.rows) == 4 and suspects.has_fresh


def test_the_loss_of_an_engine_is_told_to_who_follows_its_jobs(
    holder: Holder, make_job: JobMaker
) -> None:
    spec = make_job()
    holder.open(spec)
    holder.custody.engine_lost(Loss("signal 6", process=7, place="kernel.py:3 in run"))
    holder.custody.close()
    told: Any = holder.table.redis.xrange(holder.table.keys.events(spec.job_id))
    ((_, fields),) = told
    assert fields["kind"] == "worker.restarted"
    assert "signal 6 at kernel.py:3 in run" in fields["data"]


def test_what_lands_after_its_job_was_cancelled_counts_and_leaves_nothing_behind(
    holder: Holder, make_job: JobMaker
) -> None:
    spec = make_job()
    results = ResultsDir.of(spec)
    first, last = holder.open(spec, 0), holder.open(spec, 2)
    holder.land(spec, first)
    holder.outcome()
    cancel(holder.settings, holder.table, spec.job_id)
    assert not results.temporary.exists()
    holder.land(spec, last)
    assert holder.outcome() == "2 rows · 6 tokens"
    snapshot = holder.table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.CANCELLED
    assert snapshot.counts == Counts(total=10, succeeded=6, not_run=4)
    rows = [row for path in results.parts().values() for row in read_part(path).to_pylist()]
    page = read_results(holder.table, spec, None, 100)
    assert page.complete and page.rows == rows and len(rows) == 6
    assert not results.temporary.exists()
