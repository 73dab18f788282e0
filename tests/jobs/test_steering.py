"""Pausing, resuming and changing jobs: on disk, in the table, and across a wiped Redis."""

from typing import Any

import pytest
import redis

from penstock.jobs.control import job_lock, read_control
from penstock.jobs.ending import cancel, expire
from penstock.jobs.errors import CorruptJob, InvalidJob, UnknownJob
from penstock.jobs.events import STATUS
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_limits import check_deadline, check_error_rate, read_deadline, read_window
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.manifest import finalize
from penstock.jobs.model import Counts, JobSnapshot, JobSpec, JobState, ShardRef
from penstock.jobs.reconciler import rebuild_all, unlisted
from penstock.jobs.settings import Settings
from penstock.jobs.steering import change, pause, resume

from .conftest import JobMaker, ShardRunner

LONG_AGO_MS = 1_000


def snapshot_of(table: JobTable, spec: JobSpec) -> JobSnapshot:
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    return snapshot


def wipe(settings: Settings, table: JobTable) -> None:
    table.redis.flushall()
    rebuild_all(settings, table)


def test_a_paused_job_begins_nothing_and_lands_what_is_held(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=12)
    table.issue(spec.job_id, 2)
    held = table.claim(ShardRef(spec.job_id, 0), "w1", 60_000)
    paused = pause(settings, table, spec.job_id)
    assert paused.state is JobState.PAUSED
    assert paused.status_reason is not None and paused.status_reason.startswith("paused_by_user: ")
    assert table.issue(spec.job_id, 10) == []
    assert table.claim(ShardRef(spec.job_id, 1), "w2", 60_000).status == "stopped"
    assert table.window(spec.job_id) == 0
    assert table.renew(spec.job_id, [(0, held.attempt)], 60_000) == []  # the one that is held stays
    assert pause(settings, table, spec.job_id) == paused

    resumed = resume(settings, table, spec.job_id)
    assert (resumed.state, resumed.status_reason) == (JobState.RUNNING, None)
    assert resume(settings, table, spec.job_id) == resumed
    assert table.issue(spec.job_id, 10) == [1, 2]
    table.release(ShardRef(spec.job_id, 0), held.attempt)
    assert len(run_shards(spec, [0, 1, 2])) == 3
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


def test_a_job_that_has_not_begun_pauses_and_waits_again(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    assert pause(settings, table, spec.job_id).state is JobState.PAUSED
    assert resume(settings, table, spec.job_id).state is JobState.QUEUED


def test_a_paused_job_whose_last_shard_lands_is_completed(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=4)
    table.issue(spec.job_id, 1)
    held = table.claim(ShardRef(spec.job_id, 0), "w1", 60_000)
    pause(settings, table, spec.job_id)
    table.release(ShardRef(spec.job_id, 0), held.attempt)
    resume(settings, table, spec.job_id)
    run_shards(spec)
    assert pause(settings, table, spec.job_id).state is JobState.LANDING
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED
    for verb in (pause, resume):
        assert verb(settings, table, spec.job_id).state is JobState.COMPLETED


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_pause_survives_a_wiped_redis(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    is_begun: bool,
) -> None:
    spec = make_job(num_rows=12)
    if is_begun:
        run_shards(spec, [1])
    before = pause(settings, table, spec.job_id)
    wipe(settings, table)
    after = snapshot_of(table, spec)
    assert (after.state, after.counts) == (JobState.PAUSED, before.counts)
    assert table.issue(spec.job_id, 10) == []
    resume(settings, table, spec.job_id)
    wipe(settings, table)
    assert snapshot_of(table, spec).state is (JobState.RUNNING if is_begun else JobState.QUEUED)
    assert len(table.issue(spec.job_id, 10)) == (2 if is_begun else 3)


def test_a_worker_keeps_its_shard_when_redis_is_wiped_under_a_paused_job(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    table.issue(spec.job_id, 1)
    held = table.claim(ShardRef(spec.job_id, 0), "w1", 60_000)
    pause(settings, table, spec.job_id)
    wipe(settings, table)
    assert table.renew(spec.job_id, [(0, held.attempt)], 60_000) == []
    assert snapshot_of(table, spec).state is JobState.PAUSED


def test_a_table_that_was_rolled_back_learns_what_the_disk_says(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    key = table.keys.job(spec.job_id)
    dump = table.redis.dump(key)
    pause(settings, table, spec.job_id)
    paused = table.redis.dump(key)
    table.redis.restore(key, 0, dump, replace=True)  # pyright: ignore[reportArgumentType]
    rebuild_all(settings, table)
    assert snapshot_of(table, spec).state is JobState.PAUSED
    resume(settings, table, spec.job_id)
    table.redis.restore(key, 0, paused, replace=True)  # pyright: ignore[reportArgumentType]
    rebuild_all(settings, table)
    assert snapshot_of(table, spec).state is JobState.QUEUED


def test_a_change_that_did_not_reach_the_table_is_settled_later(
    settings: Settings, table: JobTable, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> bool:
        raise redis.ConnectionError("reset")

    spec = make_job()
    with monkeypatch.context() as patch, pytest.raises(redis.ConnectionError):
        patch.setattr(table, "settle", gone)
        pause(settings, table, spec.job_id)
    assert snapshot_of(table, spec).state is JobState.QUEUED
    keeper = Keeper(settings, "k1", client=table.redis)
    table.redis.set(keeper._app.keys.restored, table.redis.info("server")["run_id"])  # pyright: ignore[reportIndexIssue]
    keeper.step()  # a table that needs no restoring
    assert snapshot_of(table, spec).state is JobState.PAUSED
    assert unlisted(settings, table) == []
    keeper.stop()


def test_changes_are_in_force_at_once_and_after_a_wipe(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job(name="first", priority=1, metadata={"a": "1"})
    later_ms = table.now_ms() + 3_600_000
    change(settings, table, spec.job_id, priority=7, deadline_ms=later_ms)
    change(settings, table, spec.job_id, name="second", metadata={"b": "2"}, max_error_rate=0.5)
    for _ in range(2):
        job = snapshot_of(table, spec)
        assert (job.name, job.priority) == ("second", 7)
        assert (job.deadline_ms, job.max_error_rate) == (later_ms, 0.5)
        job_dir = JobDir(settings.jobs_dir, spec.job_id)
        assert read_control(job_dir, spec).metadata == {"b": "2"}
        wipe(settings, table)
    job = change(settings, table, spec.job_id, deadline_ms=None, max_error_rate=None, name=None)
    assert (job.name, job.deadline_ms, job.max_error_rate) == (None, None, None)
    assert table.redis.zcard(table.keys.deadlines) == 0


def test_what_has_ended_changes_its_name_only(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    cancel(settings, table, spec.job_id)
    assert change(settings, table, spec.job_id, name="kept").name == "kept"
    for field in ("priority", "deadline_ms", "max_error_rate"):
        with pytest.raises(InvalidJob, match="has ended"):
            change(settings, table, spec.job_id, **{field: 1})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnknownJob):
        pause(settings, table, "job_00000000000000000000000000")


def test_a_pause_is_on_disk_before_the_table_hears_of_it(
    settings: Settings, table: JobTable, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_job()

    def cut(*_: object) -> None:
        raise redis.ConnectionError("cut")

    with monkeypatch.context() as patch, pytest.raises(redis.ConnectionError):
        patch.setattr(table, "settle", cut)
        pause(settings, table, spec.job_id)
    rebuild_all(settings, table)
    assert snapshot_of(table, spec).state is JobState.PAUSED


def test_a_flipped_byte_of_what_is_in_force_is_noticed(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    change(settings, table, spec.job_id, priority=7)
    job_dir = JobDir(settings.jobs_dir, spec.job_id)
    path = job_dir.path / "control.json"
    path.write_bytes(path.read_bytes().replace(b"7", b"9", 1))
    with pytest.raises(CorruptJob, match=r"control\.json"):
        read_control(job_dir, spec)


def test_followers_hear_of_a_pause(settings: Settings, table: JobTable, make_job: JobMaker) -> None:
    spec = make_job()
    pause(settings, table, spec.job_id)
    resume(settings, table, spec.job_id)
    entries: Any = table.redis.xrange(table.keys.events(spec.job_id))
    assert [fields["kind"] for _, fields in entries] == [STATUS, STATUS]
    assert '"paused"' in entries[0][1]["data"] and '"queued"' in entries[1][1]["data"]


def test_too_many_errors_pause_a_job_until_it_is_resumed(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=24, shard_rows=4, max_error_rate=0.25, error_rate_after=8)
    run_shards(spec, [0], failing=[0, 1, 2, 3])
    assert snapshot_of(table, spec).state is JobState.RUNNING, "too few rows to judge by"
    assert [commit.has_paused for commit in run_shards(spec, [1])] == [True]
    for _ in range(2):  # a wiped Redis judges anew, by what has landed
        job = snapshot_of(table, spec)
        assert job.state is JobState.PAUSED
        assert job.status_reason == (
            "error_rate: 4 of 8 rows failed, more than max_error_rate 0.25 allows "
            "(engine_error 4); resume goes on"
        )
        assert job.errors == {"engine_error": 4}
        assert table.issue(spec.job_id, 10) == []
        wipe(settings, table)
    assert resume(settings, table, spec.job_id).state is JobState.RUNNING
    wipe(settings, table)
    assert snapshot_of(table, spec).state is JobState.RUNNING, "it was resumed: not judged by these"
    run_shards(spec, [2], failing=[8])
    run_shards(spec, [3], failing=[12])
    assert snapshot_of(table, spec).state is JobState.RUNNING, "just as many as allowed"
    run_shards(spec, [4], failing=[16, 17, 18])
    for _ in range(2):
        assert snapshot_of(table, spec).status_reason == (
            "error_rate: 5 of 12 rows failed, more than max_error_rate 0.25 allows "
            "(engine_error 5); resume goes on"
        ), "of those that failed since it was resumed"
        wipe(settings, table)
    change(settings, table, spec.job_id, max_error_rate=0.9)
    assert "max_error_rate 0.25" in str(snapshot_of(table, spec).status_reason)
    resume(settings, table, spec.job_id)
    run_shards(spec, [5])
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED_WITH_ERRORS


def test_a_deadline_ends_a_job_and_keeps_what_has_landed(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.jobs.submit_request.check_deadline", lambda _: None)
    spec = make_job(num_rows=10, deadline_ms=LONG_AGO_MS)  # which had not passed when it was made
    run_shards(spec, [0], failing=[1])
    table.issue(spec.job_id, 1)
    held = table.claim(ShardRef(spec.job_id, 1), "w1", 60_000)
    assert table.agenda.overdue(10) == [spec.job_id]
    job = expire(settings, table, spec.job_id)
    assert job is not None and job.state is JobState.EXPIRED
    assert job.counts == Counts(total=10, succeeded=3, failed=1, not_run=6)
    assert (job.status_reason or "").startswith("deadline_exceeded: ")
    assert table.renew(spec.job_id, [(1, held.attempt)], 60_000) == [1], "its worker stops"
    assert table.agenda.overdue(10) == []
    wipe(settings, table)
    assert snapshot_of(table, spec).state is JobState.EXPIRED


def test_a_deadline_that_was_put_off_or_came_too_late_ends_nothing(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    change(settings, table, spec.job_id, deadline_ms=LONG_AGO_MS)
    assert table.agenda.overdue(10) == [spec.job_id]
    change(settings, table, spec.job_id, deadline_ms=table.now_ms() + 3_600_000)
    job = expire(settings, table, spec.job_id)
    assert job is not None and job.state is JobState.QUEUED
    run_shards(spec)
    change(settings, table, spec.job_id, deadline_ms=LONG_AGO_MS)
    job = expire(settings, table, spec.job_id)
    assert job is not None and job.state is JobState.LANDING, "there is nothing left to stop"
    finalize(settings, table, spec.job_id)
    assert table.agenda.overdue(10) == []
    assert expire(settings, table, "job_00000000000000000000000000") is None


def test_a_paused_job_expires_too(settings: Settings, table: JobTable, make_job: JobMaker) -> None:
    spec = make_job()
    pause(settings, table, spec.job_id)
    change(settings, table, spec.job_id, deadline_ms=LONG_AGO_MS)
    job = expire(settings, table, spec.job_id)
    assert job is not None and (job.state, job.counts.not_run) == (JobState.EXPIRED, 10)


def test_one_changes_a_job_at_a_time(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    import threading

    spec = make_job()
    job_dir = JobDir(settings.jobs_dir, spec.job_id)
    changer = threading.Thread(
        target=change, args=(settings, table, spec.job_id), kwargs={"priority": 3}
    )
    with job_lock(job_dir):
        changer.start()
        changer.join(0.2)
        assert snapshot_of(table, spec).priority == 0
    changer.join()
    assert snapshot_of(table, spec).priority == 3


def test_deadlines_are_read_as_people_write_them() -> None:
    assert read_deadline(90, 1_000) == 91_000
    assert read_deadline("1970-01-01T00:01:00Z", 5) == 60_000
    assert [read_deadline(each, 7) for each in ("90s", "30m", "2h", "7d")] == [
        each * 1_000 + 7 for each in (90, 1_800, 7_200, 604_800)
    ]
    assert read_deadline("1970-01-01T00:01:00", 5) == 60_000
    assert read_window("24h", 0) == 86_400_000
    for wrong in (0, -1, float("nan"), "tomorrow", ""):
        with pytest.raises(InvalidJob, match="deadline must be"):
            read_deadline(wrong, 0)
    with pytest.raises(InvalidJob, match=r"31T18:00:00Z, got 1795288262$"):
        read_deadline(1795288262, 0)
    with pytest.raises(InvalidJob, match="at most ten years from now, got '9999-12-31T23"):
        read_deadline("9999-12-31T23:59:59-23:59", 0)
    for wrong in ("24", "0h", "h", "9999999d"):
        with pytest.raises(InvalidJob, match="completion_window must be"):
            read_window(wrong, 0)
    with pytest.raises(InvalidJob, match="has passed already"):
        check_deadline(LONG_AGO_MS)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(InvalidJob, match="max_error_rate must be between 0 and 1"):
            check_error_rate(wrong)
