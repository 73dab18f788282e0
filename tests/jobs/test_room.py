import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.jobs import durable
from penstock.jobs.control import Control
from penstock.jobs.durable import has_room
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.model import JobSnapshot, JobSpec, JobState, ShardRef
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.room import unblock
from penstock.jobs.settings import Settings
from penstock.jobs.steering import pause, resume

from .conftest import JobMaker, ShardRunner
from .live import wait_for


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Fills the disk, or empties it: every write of ours fails, as it would."""
    real_write = os.write
    is_full = False

    def write(descriptor: int, data: bytes) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, data)

    def fill(full: bool) -> None:
        nonlocal is_full
        is_full = full

    monkeypatch.setattr(durable.os, "write", write)
    return fill


def look(table: JobTable, spec: JobSpec) -> JobSnapshot:
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    return snapshot


def test_a_blocked_job_hands_out_nothing_and_goes_on_by_itself(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    full_disk: Callable[[bool], None],
) -> None:
    spec, other = make_job(), make_job()
    [index] = table.issue(spec.job_id, 1)
    claim = table.claim(ShardRef(spec.job_id, index), "w1", 60_000)
    full_disk(True)
    assert table.block(spec.job_id, "no space left for part-000000.parquet")
    assert not table.block(spec.job_id, "no space left for another")  # several workers may find out
    assert table.release(ShardRef(spec.job_id, index), claim.attempt)
    job = look(table, spec)
    assert job.state is JobState.PAUSED
    assert job.status_reason == (
        "storage_full: no space left for part-000000.parquet; it goes on by itself"
    )
    assert table.issue(spec.job_id, 10) == []
    assert table.issue(other.job_id, 10) == [0, 1, 2]
    assert not unblock(settings, table, spec.job_id)
    full_disk(False)
    assert unblock(settings, table, spec.job_id)
    job = look(table, spec)
    assert (job.state, job.status_reason, job.error) == (JobState.RUNNING, None, None)
    run_shards(spec)
    assert look(table, spec).state is JobState.LANDING
    assert not unblock(settings, table, spec.job_id)


def test_the_keeper_looks_for_room(
    settings: Settings, table: JobTable, make_job: JobMaker, full_disk: Callable[[bool], None]
) -> None:
    spec = make_job()
    table.block(spec.job_id, "no space left")
    full_disk(True)
    keeper = Keeper(settings, owner="keeper")
    keeper.start()
    try:
        looked = lambda: table.redis.zscore(table.keys.blocked, spec.job_id)  # noqa: E731 (brief)
        first = looked()
        wait_for(lambda: looked() != first, "the keeper to look for room")
        assert look(table, spec).state is JobState.PAUSED
        full_disk(False)
        wait_for(lambda: look(table, spec).state is JobState.QUEUED, "the job to go on")
    finally:
        keeper.stop()
    assert table.redis.zcard(table.keys.blocked) == 0


def test_a_pause_that_somebody_asked_for_outlasts_the_want_of_room(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    table.block(spec.job_id, "no space left")
    pause(settings, table, spec.job_id)
    assert table.settle(spec.job_id, Control(None, 0, pause_reason="user"))
    assert not unblock(settings, table, spec.job_id)
    assert look(table, spec).state is JobState.PAUSED
    assert resume(settings, table, spec.job_id).state is JobState.QUEUED


def test_a_blocked_job_that_is_cancelled_is_not_looked_after_any_more(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    table.block(spec.job_id, "no space left")
    table.finish(spec.job_id, JobState.CANCELLED)
    assert table.agenda.blocked(0, 10) == []
    assert not table.unblock(spec.job_id)
    assert not table.block(spec.job_id, "no space left")


def test_looking_for_room_leaves_nothing_behind(
    make_spec: Callable[..., JobSpec], full_disk: Callable[[bool], None], tmp_path: Path
) -> None:
    results = ResultsDir.of(make_spec())
    full_disk(True)
    assert not has_room(results.path)
    full_disk(False)
    assert has_room(results.path)
    assert list(results.path.iterdir()) == []


def test_a_disk_that_is_really_full_has_no_room(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(512 << 10))
    assert not has_room(small_disk / "job")
    (small_disk / "ballast").unlink()
    assert [path.name for path in small_disk.rglob("*")] == ["job"]
