"""The job table after Redis lost everything, or some of it: who held what, and what had landed."""

from typing import Any

import pytest
import redis

from penstock.jobs.job_table import ABSORB_CHUNK, JobTable
from penstock.jobs.model import Counts, JobState, ShardRef

from .conftest import SpecMaker
from .test_job_table import LEASE_MS, counts


@pytest.mark.parametrize("attempt", [0, -1, 10**15])
def test_an_attempt_that_was_never_given_out_holds_nothing(
    table: JobTable, make_spec: SpecMaker, attempt: int
) -> None:
    spec = make_spec()
    table.create(spec)
    ref = ShardRef(spec.job_id, 0)
    claim = table.claim(ref, "w1", LEASE_MS)
    table.release(ref, claim.attempt)
    assert table.renew(spec.job_id, [(0, attempt)], LEASE_MS) == [0]
    assert not table.release(ref, attempt)
    assert table.commit(ref, attempt, counts(4)).status == "fenced"


def test_a_wipe_takes_no_shard_from_who_renews_first(
    table: JobTable, make_spec: SpecMaker, redis_client: redis.Redis
) -> None:
    spec = make_spec()
    table.create(spec)
    first, second = (ShardRef(spec.job_id, index) for index in range(2))
    old, other = (table.claim(ref, "w1", LEASE_MS).attempt for ref in (first, second))
    redis_client.flushall()
    assert table.renew(spec.job_id, [(0, old), (1, other)], LEASE_MS) == []
    table.rebuild(spec, {}, None)
    assert table.issue(spec.job_id, 1) == [0]
    assert table.claim(second, "w2", LEASE_MS).status == "granted"
    assert table.renew(spec.job_id, [(0, old), (1, other)], LEASE_MS) == [1]
    assert table.window(spec.job_id) == 0  # the message for it is not wanted any more
    assert table.claim(first, "w2", LEASE_MS).status == "busy"
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.state, snapshot.counts.running) == (JobState.RUNNING, 8)
    assert table.commit(first, old, counts(4)).status == "committed"
    assert table.renew(spec.job_id, [(0, old)], LEASE_MS) == [0]
    assert table.issue(spec.job_id, 10) == [2]


def test_a_shard_that_was_handed_back_is_not_taken_back(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    ref = ShardRef(spec.job_id, 0)
    attempt = table.claim(ref, "w1", LEASE_MS).attempt
    table.release(ref, attempt)
    assert table.renew(spec.job_id, [(0, attempt)], LEASE_MS) == [0]
    assert table.renew(spec.job_id, [(1, 10**15), (2, 0), (3, 1)], LEASE_MS) == [1, 2, 3]


def test_an_attempt_from_before_a_wipe_never_fits_one_from_after_it(
    table: JobTable, make_spec: SpecMaker, redis_client: redis.Redis
) -> None:
    spec = make_spec()
    ref = ShardRef(spec.job_id, 0)
    table.create(spec)
    old = table.claim(ref, "w1", LEASE_MS)
    redis_client.flushall()
    table.rebuild(spec, {}, None)
    new = table.claim(ref, "w2", LEASE_MS)
    assert new.status == "granted"
    assert new.attempt > old.attempt
    assert table.renew(spec.job_id, [(0, old.attempt)], LEASE_MS) == [0]


def test_rebuild_skips_what_has_landed(
    table: JobTable, make_spec: SpecMaker, redis_client: redis.Redis
) -> None:
    spec = make_spec(num_rows=4 * 10_000, shard_rows=4)
    landed = {index: counts(4) for index in range(10_000) if index != 9_000}
    assert table.rebuild(spec, landed, None) == 9_999
    assert table.rebuild(spec, landed, None) == 0
    issued: list[int] = []
    for _ in range(10):  # one call looks at a bounded number of shards
        issued += table.issue(spec.job_id, 100)
    assert issued == [9_000]
    claim = table.claim(ShardRef(spec.job_id, 9_000), "w1", LEASE_MS)
    assert table.commit(ShardRef(spec.job_id, 9_000), claim.attempt, counts(4)).left == 0
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.LANDING
    assert snapshot.counts.succeeded == 40_000


def test_rebuild_beside_a_live_worker_counts_its_part_once(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    claim = table.claim(ShardRef(spec.job_id, 0), "w1", LEASE_MS)
    other = table.claim(ShardRef(spec.job_id, 1), "w1", LEASE_MS)
    assert table.rebuild(spec, {0: counts(4)}, None) == 1  # linked, and not yet committed
    assert table.commit(ShardRef(spec.job_id, 0), claim.attempt, counts(4)).status == "duplicate"
    assert table.renew(spec.job_id, [(1, other.attempt)], LEASE_MS) == []
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.counts == Counts(total=10, pending=2, running=4, succeeded=4)


def test_damaged_shards_are_taken_back_a_few_at_a_time_however_often_that_is_cut_off(
    table: JobTable, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_shards = 2 * ABSORB_CHUNK + 10
    spec = make_spec(num_rows=4 * num_shards)
    table.rebuild(spec, dict.fromkeys(range(num_shards), counts(4)), None)
    reopen, sizes = table._reopen, []

    def call(keys: list[str], arguments: list[Any]) -> object:
        sizes.append(len(arguments))
        if len(sizes) == 2:
            raise redis.ConnectionError("cut off")
        return reopen(keys, arguments)

    monkeypatch.setattr(table, "_reopen", call)
    damaged = range(num_shards - 1)
    with pytest.raises(redis.ConnectionError):
        table.reopen(spec.job_id, damaged, counts(4))
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.state is JobState.LANDING
    assert table.reopen(spec.job_id, damaged, counts(4))
    assert max(sizes) <= ABSORB_CHUNK + 8
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.state is JobState.RUNNING
    assert (snapshot.shards_landed, snapshot.counts.succeeded) == (1, 4)
    issued = [shard for _ in range(4) for shard in table.issue(spec.job_id, ABSORB_CHUNK)]
    assert sorted(issued) == list(damaged)
    assert not table.reopen(spec.job_id, damaged, counts(4))
