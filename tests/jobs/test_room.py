import errno
import os
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs import durable
from penstock.jobs.control import Control
from penstock.jobs.durable import has_room
from penstock.jobs.fake_engine import FakeModel, FakeTokenizer
from penstock.jobs.found_part import found_counts
from penstock.jobs.frames import RunShard, ShardFailed, ShardLanded, Trouble
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.lander import Lander
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobSnapshot, JobSpec, JobState, ShardRef
from penstock.jobs.prompt_encoder import PromptEncoder
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.room import unblock
from penstock.jobs.sealed_input import SealedInput
from penstock.jobs.settings import Settings
from penstock.jobs.shard_reader import ShardReader
from penstock.jobs.steering import pause, resume
from tests.waiting import PATIENCE_S

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
    assert table.block(spec.job_id, "storage_full: no space left for part-000000.parquet")
    assert not table.block(
        spec.job_id, "storage_full: no space left for another"
    )  # several workers may find out
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
    table.block(spec.job_id, "storage_full: no space left")
    full_disk(True)
    keeper = Keeper(settings, owner="keeper")

    def looked() -> object:
        return table.redis.zscore(table.keys.blocked, spec.job_id)

    keeper.start()
    try:
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
    table.block(spec.job_id, "storage_full: no space left")
    pause(settings, table, spec.job_id)
    assert table.settle(spec.job_id, Control(None, 0, pause_reason="user"))
    assert not unblock(settings, table, spec.job_id)
    assert look(table, spec).state is JobState.PAUSED
    assert resume(settings, table, spec.job_id).state is JobState.QUEUED


def test_a_blocked_job_that_is_cancelled_is_not_looked_after_any_more(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    table.block(spec.job_id, "storage_full: no space left")
    table.finish(spec.job_id, JobState.CANCELLED)
    assert table.agenda.blocked(0, 10) == []
    assert not table.unblock(spec.job_id)
    assert not table.block(spec.job_id, "storage_full: no space left")


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


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ESTALE])
def test_a_disk_in_trouble_is_no_fault_of_the_rows(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    """A part that cannot be read for a while is not damaged, and its job waits."""
    spec = make_job()
    run_shards(spec)
    results = ResultsDir.of(spec)

    def fail(*_: object) -> bytes:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(OSError, match=r"\[Errno"):
            found_counts(results, 0)
    assert list(results.parts()) == [0, 1, 2]
    with monkeypatch.context() as patch:
        patch.setattr("penstock.jobs.manifest.read_parts", fail)
        with pytest.raises(OSError, match=r"\[Errno"):
            finalize(settings, table, spec.job_id)
    assert (look(table, spec).status_reason or "").startswith("held_up: storage_unavailable: ")
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


def test_rows_that_cannot_be_written_wait_for_the_disk(
    settings: Settings, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_job()
    told: queue.SimpleQueue[ShardLanded | ShardFailed] = queue.SimpleQueue()
    reader_told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    encoder = PromptEncoder(FakeTokenizer(FakeModel()))
    reader = ShardReader(settings.jobs_dir, "w1", encoder, reader_told.put, reader_told.put)
    reader.start()
    monkeypatch.setattr(SealedInput, "shard", lambda *_: _raise(OSError(errno.EIO, "broken")))
    reader.submit(RunShard(spec.job_id, 0, attempt=1))
    failed = reader_told.get(timeout=PATIENCE_S)
    assert isinstance(failed, ShardFailed)
    assert (failed.trouble, failed.message) == (
        Trouble.STORAGE,
        "storage_unavailable: [Errno 5] broken",
    )
    monkeypatch.undo()
    reader.submit(RunShard(spec.job_id, 0, attempt=2))
    run = reader_told.get(timeout=PATIENCE_S)
    monkeypatch.setattr(
        "penstock.jobs.lander.land", lambda *_, **__: _raise(OSError(errno.EROFS, "no"))
    )
    lander = Lander(told.put, settings.jobs_dir)
    lander.start()
    lander.submit(run)
    outcome = told.get(timeout=PATIENCE_S)
    assert isinstance(outcome, ShardFailed)
    assert outcome.trouble is Trouble.STORAGE
    assert outcome.message.startswith(f"storage_unavailable: cannot write below {spec.out}")


def _raise(error: Exception) -> Any:
    raise error
