"""What custody does about leases while a shard runs: it prolongs them, and lets lost shards go."""

import queue
from dataclasses import replace

import pytest

from penstock.jobs.custody import Custody
from penstock.jobs.events import JobEvents
from penstock.jobs.frames import AbortShard, RunShard, ToEngine
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobSpec, JobState, ShardRef
from penstock.jobs.settings import Settings
from penstock.jobs.tasks import ShardReturned

from .conftest import JobMaker
from .lapse import wait_until_lapsed

Sent = queue.SimpleQueue[ToEngine]


@pytest.fixture
def sent() -> Sent:
    return queue.SimpleQueue()


@pytest.fixture
def custody(settings: Settings, table: JobTable, sent: Sent) -> Custody:
    """A custody without a thread: the tests take its steps."""

    def send(frame: ToEngine) -> bool:
        sent.put(frame)
        return True

    events, own = JobEvents(table.redis, table.keys), replace(settings, lease_s=60.0)
    return Custody(own, table, events, "w1", send=send, on_job_landed=lambda job_id: None)


@pytest.fixture
def spec(make_job: JobMaker, table: JobTable) -> JobSpec:
    spec = make_job(num_rows=8, shard_rows=4)
    table.issue(spec.job_id, 2)
    return spec


def test_the_leases_of_held_shards_are_prolonged(
    custody: Custody, table: JobTable, spec: JobSpec, sent: Sent
) -> None:
    custody.open(ShardRef(spec.job_id, 0), lambda outcome: None)
    custody.step()
    order = sent.get_nowait()
    assert isinstance(order, RunShard)
    table.renew(spec.job_id, [(0, order.attempt)], 1)  # it runs out in a moment
    wait_until_lapsed(table, spec.job_id)
    custody._renewed_at_s = float("-inf")  # a second has passed
    custody.step()
    assert table.reap(10) == []


def test_a_shard_that_is_lost_is_stopped_and_returned(
    custody: Custody, table: JobTable, spec: JobSpec, sent: Sent
) -> None:
    outcomes: list[str | Exception] = []
    custody.open(ShardRef(spec.job_id, 0), outcomes.append)
    custody.step()
    order = sent.get_nowait()
    assert isinstance(order, RunShard)
    table.finish(spec.job_id, JobState.CANCELLED)
    custody._renewed_at_s = float("-inf")
    custody.step()
    assert sent.get_nowait() == AbortShard(spec.job_id, 0, order.attempt)
    [outcome] = outcomes
    assert isinstance(outcome, ShardReturned)
