import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.keys import Keys
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.model import JobState, RowStatus, ShardRef, TaskSpec
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, Submission, SubmitRequest, submit
from penstock.jobs.tasks import complete

from .live import wait_for

MODEL = "fake:"
MakeKeeper = Callable[[str], Keeper]


@pytest.fixture
def make_keeper(settings: Settings) -> Iterator[MakeKeeper]:
    keepers: list[Keeper] = []

    def make(owner: str) -> Keeper:
        keeper = Keeper(settings, owner)
        keepers.append(keeper)
        keeper.start()
        return keeper

    yield make
    for keeper in keepers:
        keeper.stop()


@pytest.fixture
def submitted(settings: Settings, table: JobTable) -> Submission:
    rows = RowsSource([{"text": "a"}, {"text": "b"}])
    task = TaskSpec(model=MODEL, prompt="{{ row.text }}")
    return submit(settings, table, rows, SubmitRequest(task, shard_rows=1))


def test_one_leads_and_hands_over_at_once(
    make_keeper: MakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.jobs.keeper.LEADERSHIP_MS", 600_000)
    first = make_keeper("first")
    wait_for(lambda: first.is_leading, "the first keeper to lead")
    second = make_keeper("second")
    time.sleep(1.2)
    assert first.is_leading and not second.is_leading
    first.stop()
    wait_for(lambda: second.is_leading, "the second keeper to lead")  # or it would in ten minutes


def test_shards_of_a_silent_worker_run_again(
    make_keeper: MakeKeeper, submitted: Submission, table: JobTable
) -> None:
    keeper = make_keeper("keeper")
    job_id = submitted.spec.job_id
    table.issue(job_id, 1)
    assert table.claim(ShardRef(job_id, 0), "silent", 300).status == "granted"

    def is_free() -> bool:
        snapshot = table.snapshot(job_id)
        return snapshot is not None and snapshot.counts.running == 0

    wait_for(is_free, "the lease to be reaped")
    wait_for(lambda: keeper.num_reaped == 1, "it to be counted")
    assert table.issue(job_id, 5) == [0, 1]


def test_a_job_stuck_in_landing_is_completed_without_any_worker(
    make_keeper: MakeKeeper,
    submitted: Submission,
    table: JobTable,
    keys: Keys,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.jobs.keeper._LANDING_PATIENCE_S", 0.5)
    spec = submitted.spec
    left = -1
    for index, text in enumerate("ab"):
        table.issue(spec.job_id, 1)
        ref = ShardRef(spec.job_id, index)
        claim = table.claim(ref, "worker", 5_000)
        row = LandedRow(index, None, RowStatus.SUCCEEDED, "out", columns={"text": text})
        counts = land(spec, index, claim.attempt, [row])
        left = table.commit(ref, claim.attempt, counts).left
    assert left == 0
    make_keeper("keeper")

    def is_completed() -> bool:
        snapshot = table.snapshot(spec.job_id)
        return snapshot is not None and snapshot.state is JobState.COMPLETED

    wait_for(is_completed, "the job to be completed")
    assert table.redis.llen(keys.control_queue) == 0
    wait_for(lambda: table.redis.xlen(keys.events(spec.job_id)) == 2, "its followers to hear")
    for _ in range(2):  # a late hint: nobody is told twice
        assert complete(settings, table, spec.job_id) == "completed"
    entries: Any = table.redis.xrange(keys.events(spec.job_id))
    assert [fields["kind"] for _, fields in entries] == ["job.status", "done"]


def test_a_job_made_while_redis_failed_is_entered(
    make_keeper: MakeKeeper, settings: Settings, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise redis.ConnectionError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(table, "create", fail)
        rows, task = RowsSource([{"text": "a"}]), TaskSpec(model=MODEL, prompt="{{ row.text }}")
        spec = submit(settings, table, rows, SubmitRequest(task)).spec
    assert table.snapshot(spec.job_id) is None
    table.redis.set(table.keys.restored, table.redis.info("server")["run_id"])
    make_keeper("keeper")
    wait_for(lambda: table.snapshot(spec.job_id), "the job to be entered")
    assert table.open_jobs() == [spec.job_id]


def test_a_wiped_redis_is_restored(
    make_keeper: MakeKeeper, submitted: Submission, table: JobTable, redis_client: redis.Redis
) -> None:
    keeper = make_keeper("keeper")
    wait_for(lambda: keeper.is_leading, "the keeper to lead")
    redis_client.flushall()
    snapshot = wait_for(lambda: table.snapshot(submitted.spec.job_id), "the job to be back")
    assert (snapshot.state, snapshot.counts.total) == (JobState.QUEUED, 2)


def test_a_chore_that_fails_holds_up_no_other(
    make_keeper: MakeKeeper, submitted: Submission, table: JobTable, redis_client: redis.Redis
) -> None:
    redis_client.set(table.keys.workers, "not a set")  # the feeder stumbles over this
    keeper = make_keeper("keeper")
    wait_for(lambda: keeper.is_leading, "the keeper to lead")
    redis_client.flushall()
    redis_client.set(table.keys.workers, "not a set")
    wait_for(lambda: table.snapshot(submitted.spec.job_id), "the job to be restored")


def test_a_redis_that_came_back_at_an_older_state_learns_what_has_landed(
    make_keeper: MakeKeeper, submitted: Submission, table: JobTable
) -> None:
    land(submitted.spec, 0, 1, [LandedRow(0, None, RowStatus.SUCCEEDED, output="x")])
    assert table.redis.get(table.keys.restored) is None  # no keeper has seen this run of the server
    make_keeper("keeper")

    def succeeded() -> int:
        snapshot = table.snapshot(submitted.spec.job_id)
        return snapshot.counts.succeeded if snapshot is not None else 0

    wait_for(succeeded, "the part to be counted")
