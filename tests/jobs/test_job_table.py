import time

import pytest
import redis
from redis.exceptions import OutOfMemoryError

from penstock.jobs.errors import UnknownJob
from penstock.jobs.job_table import Claim, Commit, JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import Counts, JobState, ShardRef
from penstock.jobs.part_counts import PartCounts

from .conftest import SpecMaker
from .lapse import wait_until_lapsed

LEASE_MS = 60_000


def counts(rows: int, failed: int = 0) -> PartCounts:
    return PartCounts(
        rows=rows,
        failed=failed,
        prompt_tokens=10 * rows,
        completion_tokens=3 * rows,
        cached_tokens=rows,
    )


def place_of(table: JobTable, job_id: str, index: int) -> set[str]:
    """In which of the sets a shard is."""
    key = table.keys.job
    return {
        part
        for part in ("leases", "queued", "retry")
        if table.redis.zscore(key(job_id, part), str(index)) is not None
    }


def test_a_job_from_creation_to_its_end(table: JobTable, make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=10, shard_rows=4, name="night run", priority=3, num_rejected=2)
    assert table.create(spec)
    assert not table.create(spec)
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.QUEUED
    assert snapshot.counts == Counts(total=10, pending=10, rejected=2)
    assert (snapshot.name, snapshot.priority, snapshot.tenant) == ("night run", 3, "default")
    assert (snapshot.started_at_ms, snapshot.finished_at_ms, snapshot.error) == (None, None, None)

    assert table.issue(spec.job_id, 100) == [0, 1, 2]
    assert table.issue(spec.job_id, 100) == []
    assert table.window(spec.job_id) == 3

    claims = [table.claim(ShardRef(spec.job_id, index), "w1", LEASE_MS) for index in range(3)]
    assert [claim.status for claim in claims] == ["granted"] * 3
    assert table.window(spec.job_id) == 0
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.started_at_ms is not None
    assert snapshot.state is JobState.RUNNING
    assert snapshot.counts == Counts(total=10, running=10, rejected=2)

    for index, rows, failed in ((2, 2, 1), (0, 4, 0), (1, 4, 0)):
        answer = table.commit(
            ShardRef(spec.job_id, index), claims[index].attempt, counts(rows, failed)
        )
        assert answer.status == "committed"
    assert answer.left == 0
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.LANDING
    assert snapshot.counts == Counts(total=10, succeeded=9, failed=1, rejected=2)
    assert (snapshot.prompt_tokens, snapshot.completion_tokens, snapshot.cached_tokens) == (
        100,
        30,
        10,
    )

    assert table.open_jobs() == [spec.job_id]
    assert table.finish(spec.job_id, JobState.COMPLETED_WITH_ERRORS)
    assert not table.finish(spec.job_id, JobState.FAILED, "too late")
    assert table.open_jobs() == []
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.finished_at_ms is not None
    assert (snapshot.state, snapshot.error) == (JobState.COMPLETED_WITH_ERRORS, None)


def test_a_snapshot_counts_the_short_last_shard_right(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec(num_rows=10, shard_rows=4)
    table.create(spec)
    table.issue(spec.job_id, 3)
    table.claim(ShardRef(spec.job_id, 2), "w1", LEASE_MS)
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.counts.running, snapshot.counts.pending) == (2, 8)


def test_a_held_shard_is_busy_for_everybody_its_holder_included(
    table: JobTable, make_spec: SpecMaker
) -> None:
    """A worker that claimed its own live shard again would fence itself."""
    spec = make_spec()
    table.create(spec)
    ref = ShardRef(spec.job_id, 0)
    table.issue(spec.job_id, 1)
    first = table.claim(ref, "w1", LEASE_MS)
    for worker in ("w1", "w2"):
        assert table.claim(ref, worker, LEASE_MS) == Claim("busy", 0, 0)
    assert table.renew(spec.job_id, [(0, first.attempt)], LEASE_MS) == []
    assert table.commit(ref, first.attempt, counts(4)) == Commit("committed", 2)
    assert table.claim(ref, "w2", LEASE_MS) == Claim("landed", 0, 0)


def test_a_dead_workers_shard_comes_back_and_the_dead_one_is_fenced(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    ref = ShardRef(spec.job_id, 0)
    table.issue(spec.job_id, 1)
    old = table.claim(ref, "w1", 1)
    wait_until_lapsed(table, spec.job_id)
    assert table.reap(10) == [ref]
    assert table.reap(10) == []
    assert place_of(table, spec.job_id, 0) == {"retry"}
    # The owner is cleared too: whoever comes next gets it, at once.
    assert table.issue(spec.job_id, 1) == [0]
    new = table.claim(ref, "w2", LEASE_MS)
    assert (new.status, new.tries) == ("granted", 2)
    assert new.attempt > old.attempt
    assert table.renew(spec.job_id, [(0, old.attempt)], LEASE_MS) == [0]
    assert not table.release(ref, old.attempt)
    assert table.commit(ref, old.attempt, counts(4)) == Commit("fenced", 3)
    assert table.commit(ref, new.attempt, counts(4)) == Commit("committed", 2)
    assert table.commit(ref, new.attempt, counts(4)) == Commit("duplicate", 2)
    assert table.commit(ref, old.attempt, counts(4)) == Commit("duplicate", 2)


def test_a_failure_counts_once_for_whoever_holds_the_shard(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    ref = ShardRef(spec.job_id, 0)
    first = table.claim(ref, "w1", LEASE_MS)
    assert [table.count_failure(ref, first.attempt) for _ in range(2)] == [1, 1]
    table.release(ref, first.attempt)
    assert table.count_failure(ref, first.attempt) == 0
    second = table.claim(ref, "w2", LEASE_MS)
    assert table.count_failure(ref, second.attempt) == 2
    assert table.commit(ref, second.attempt, counts(4)) == Commit("committed", 2)
    assert table.redis.exists(table.keys.job(spec.job_id, "attempts")) == 0


def test_a_busy_shard_may_be_dropped_because_the_reaper_brings_it_back(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    ref = ShardRef(spec.job_id, 0)
    table.issue(spec.job_id, 1)
    claim = table.claim(ref, "w1", LEASE_MS)
    assert table.claim(ref, "w2", LEASE_MS).status == "busy"  # its message is dropped, w1 dies
    table.renew(spec.job_id, [(0, claim.attempt)], 1)
    wait_until_lapsed(table, spec.job_id)
    assert table.reap(10) == [ref]
    assert table.issue(spec.job_id, 1) == [0]


def test_an_expired_lease_may_be_claimed_before_the_reaper_comes(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    ref = ShardRef(spec.job_id, 0)
    old = table.claim(ref, "w1", 1)
    wait_until_lapsed(table, spec.job_id)
    new = table.claim(ref, "w2", LEASE_MS)
    assert new.status == "granted"
    assert table.reap(10) == []
    assert table.commit(ref, old.attempt, counts(4)).status == "fenced"


def test_a_late_renewal_keeps_a_lease_that_nobody_took(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    claim = table.claim(ShardRef(spec.job_id, 0), "w1", 1)
    wait_until_lapsed(table, spec.job_id)
    assert table.renew(spec.job_id, [(0, claim.attempt)], LEASE_MS) == []
    assert table.reap(10) == []


def test_a_released_shard_is_issued_before_new_ones(table: JobTable, make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=40, shard_rows=4)
    table.create(spec)
    assert table.issue(spec.job_id, 2) == [0, 1]
    claim = table.claim(ShardRef(spec.job_id, 1), "w1", LEASE_MS)
    assert table.release(ShardRef(spec.job_id, 1), claim.attempt)
    assert not table.release(ShardRef(spec.job_id, 1), claim.attempt)
    assert table.issue(spec.job_id, 2) == [1, 2]


def test_lost_messages_are_issued_again_but_not_in_a_flood(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec(num_rows=40, shard_rows=4)
    table.create(spec)
    table.issue(spec.job_id, 3)
    table.claim(ShardRef(spec.job_id, 1), "w1", LEASE_MS)
    assert table.reissue_stale(spec.job_id, 30_000, 10) == []
    time.sleep(0.02)
    assert table.reissue_stale(spec.job_id, 10, 10) == [0, 2]  # 1 is leased: not lost
    assert table.reissue_stale(spec.job_id, 10, 10) == []
    assert table.issue(spec.job_id, 2) == [0, 2]
    assert table.reissue_stale(spec.job_id, 30_000, 10) == []  # their clock began anew


def test_cancel_takes_everything_back_but_what_is_linked(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec()
    table.create(spec)
    table.issue(spec.job_id, 3)
    first, second = (table.claim(ShardRef(spec.job_id, i), "w1", LEASE_MS) for i in (0, 1))
    table.commit(ShardRef(spec.job_id, 0), first.attempt, counts(4))
    assert table.finish(spec.job_id, JobState.CANCELLED)
    assert not table.finish(spec.job_id, JobState.CANCELLED)
    assert table.renew(spec.job_id, [(1, second.attempt)], LEASE_MS) == [1]
    assert table.commit(ShardRef(spec.job_id, 1), second.attempt, counts(4)).status == "late"
    assert table.claim(ShardRef(spec.job_id, 2), "w1", LEASE_MS).status == "stopped"
    assert table.claim(ShardRef(spec.job_id, 0), "w1", LEASE_MS).status == "landed"
    assert table.issue(spec.job_id, 10) == []
    assert table.reap(10) == []
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.CANCELLED
    assert snapshot.counts == Counts(total=10, not_run=2, succeeded=8)


def test_unknown_jobs_and_shards(table: JobTable, make_spec: SpecMaker) -> None:
    ghost = ShardRef("job_ghost", 0)
    assert table.snapshot("job_ghost") is None
    assert table.claim(ghost, "w1", LEASE_MS).status == "unknown"
    assert table.commit(ghost, 1, counts(4)) == Commit("fenced", -1)
    assert table.renew("job_ghost", [(0, 1)], LEASE_MS) == []  # it may be restored yet
    assert table.renew("job_ghost", [], LEASE_MS) == []
    assert not table.release(ghost, 1)
    assert table.issue("job_ghost", 5) == []
    assert not table.finish("job_ghost", JobState.CANCELLED)
    spec = make_spec()
    table.create(spec)
    assert table.claim(ShardRef(spec.job_id, 3), "w1", LEASE_MS).status == "unknown"


def test_finish_wants_a_final_state(table: JobTable, make_spec: SpecMaker) -> None:
    spec = make_spec()
    table.create(spec)
    with pytest.raises(ValueError, match="final state, got 'running'"):
        table.finish(spec.job_id, JobState.RUNNING)


def test_list_walks_from_new_to_old(table: JobTable, make_spec: SpecMaker) -> None:
    specs = [make_spec(created_at_ms=1_700_000_000_000 + i) for i in range(5)]
    for spec in specs:
        table.create(spec)
    newest_first = [spec.job_id for spec in reversed(specs)]
    walked: list[str] = []
    while page := table.list(after=walked[-1] if walked else None, limit=2):
        walked += [snapshot.job_id for snapshot in page]
    assert walked == newest_first
    with pytest.raises(UnknownJob, match="job_ghost"):
        table.list(after="job_ghost")


def test_after_a_silence_leases_get_a_grace_and_only_one(
    table: JobTable, make_spec: SpecMaker, redis_client: redis.Redis
) -> None:
    """Redis was down, or the reaper: nobody could renew, so nobody is judged yet."""
    spec = make_spec()
    table.create(spec)
    table.reap(10)
    table.claim(ShardRef(spec.job_id, 0), "w1", 1)
    wait_until_lapsed(table, spec.job_id)
    looked_at = int(str(redis_client.hget(table.keys.reaper, "looked_at_ms")))
    redis_client.hset(table.keys.reaper, "looked_at_ms", looked_at - 8_000)
    assert table.reap(10) == []
    assert table.reap(10) == []
    state = redis_client.hgetall(table.keys.reaper)
    assert int(state["quiet_until_ms"]) > int(state["looked_at_ms"])  # pyright: ignore[reportIndexIssue]
    # A reaper that only looks now and then is slow, but it does reap.
    redis_client.hset(
        table.keys.reaper, mapping={"looked_at_ms": looked_at - 8_000, "quiet_until_ms": looked_at}
    )
    assert table.reap(10) == [ShardRef(spec.job_id, 0)]


def test_landing_goes_on_when_redis_is_full(
    table: JobTable, make_spec: SpecMaker, redis_client: redis.Redis
) -> None:
    spec = make_spec()
    table.create(spec)
    table.issue(spec.job_id, 3)
    held = [table.claim(ShardRef(spec.job_id, i), "w1", LEASE_MS) for i in range(2)]
    redis_client.config_set("maxmemory", "1")
    try:
        with pytest.raises(OutOfMemoryError):
            table.create(make_spec())
        assert table.renew(spec.job_id, [(0, held[0].attempt)], LEASE_MS) == []
        ref = ShardRef(spec.job_id, 0)
        assert table.commit(ref, held[0].attempt, counts(4)) == Commit("committed", 2)
        assert table.release(ShardRef(spec.job_id, 1), held[1].attempt)
        assert table.snapshot(spec.job_id) is not None
        assert table.finish(spec.job_id, JobState.CANCELLED)
    finally:
        redis_client.config_set("maxmemory", "0")


def test_ten_million_rows_cost_less_than_two_bytes_each(
    table: JobTable, make_spec: SpecMaker, redis_client: redis.Redis
) -> None:
    spec = make_spec(num_rows=10_000_000, shard_rows=256)
    table.rebuild(spec, {index: counts(256) for index in range(0, spec.num_shards, 2)}, None)
    table.issue(spec.job_id, 200)
    parts = ("", "landed", "leases", "attempts", "queued", "retry")
    used = sum(
        int(redis_client.memory_usage(table.keys.job(spec.job_id, part)) or 0)  # pyright: ignore[reportArgumentType]
        for part in parts
    )
    assert used < 100_000  # a hundredth of a byte per row: 39,063 bits, and the window


def test_the_client_must_decode(redis_url: str, keys: Keys) -> None:
    with (
        redis.Redis.from_url(redis_url) as client,
        pytest.raises(ValueError, match="decode_responses"),
    ):
        JobTable(client, keys)


def test_what_holds_a_job_up_is_shown_until_it_goes_on(
    table: JobTable, make_spec: SpecMaker
) -> None:
    spec = make_spec(num_rows=8, shard_rows=4)
    table.note("job_unknown", "nobody hears this")
    assert table.snapshot("job_unknown") is None
    table.create(spec)
    table.issue(spec.job_id, 2)
    claims = [table.claim(ShardRef(spec.job_id, index), "w1", LEASE_MS) for index in range(2)]

    def error() -> str | None:
        snapshot = table.snapshot(spec.job_id)
        assert snapshot is not None
        return snapshot.error

    table.note(spec.job_id, "the disk is full")
    assert error() == "the disk is full"
    table.commit(ShardRef(spec.job_id, 0), claims[0].attempt, counts(4))
    assert error() is None
    table.note(spec.job_id, "the disk is full again")
    table.finish(spec.job_id, JobState.FAILED, "the input is gone")
    table.note(spec.job_id, "too late")
    assert error() == "the input is gone"
