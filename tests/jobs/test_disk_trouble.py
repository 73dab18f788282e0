"""A disk in trouble with one job: nothing is judged by it, and no other job waits.

A directory in place of a file, and a link to itself, are refused by the system as a sick disk
refuses: with an error that is neither "not there" nor damaged bytes.
"""

import os
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.control import job_lock
from penstock.jobs.ending import cancel
from penstock.jobs.errors import CorruptJob, JobBusy
from penstock.jobs.fake_engine import FakeModel, FakeTokenizer
from penstock.jobs.frames import RunShard, ShardFailed, Trouble
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.model import JobState, RowStatus
from penstock.jobs.prompt_encoder import PromptEncoder
from penstock.jobs.reconciler import rebuild_all
from penstock.jobs.settings import Settings
from penstock.jobs.shard_reader import ShardReader
from penstock.jobs.steering import change, pause, resume
from penstock.jobs.sweep import sweep
from tests.waiting import PATIENCE_S

from .conftest import JobMaker


def hide_spec(job_dir: JobDir) -> Callable[[], None]:
    """Make a job's spec unreadable; returns what makes it readable again."""
    aside = job_dir.path / "aside"
    job_dir.spec.rename(aside)
    job_dir.spec.mkdir()

    def heal() -> None:
        job_dir.spec.rmdir()
        aside.rename(job_dir.spec)

    return heal


def hide_directory(job_dir: JobDir) -> Callable[[], None]:
    """Let a job's directory lead to itself, likewise."""
    aside = job_dir.path.with_name(".aside")
    job_dir.path.rename(aside)
    job_dir.path.symlink_to(job_dir.path)

    def heal() -> None:
        job_dir.path.unlink()
        aside.rename(job_dir.path)

    return heal


@pytest.mark.parametrize("name", ["job.json", "control.json", "final.json"])
def test_a_file_that_cannot_be_read_just_now_is_not_damaged(
    settings: Settings, table: JobTable, make_job: JobMaker, name: str
) -> None:
    job_dir = JobDir(settings.jobs_dir, make_job().job_id)
    (job_dir.path / name).unlink(missing_ok=True)
    (job_dir.path / name).mkdir()
    step = pause if name == "control.json" else cancel
    with pytest.raises(OSError, match=name) as raised:
        step(settings, table, job_dir.job_id)
    assert not isinstance(raised.value, CorruptJob)


def test_a_spec_that_cannot_be_read_just_now_does_not_fail_the_job(
    settings: Settings, make_job: JobMaker
) -> None:
    spec = make_job()
    hide_spec(JobDir(settings.jobs_dir, spec.job_id))
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    encoder = PromptEncoder(FakeTokenizer(FakeModel()))
    reader = ShardReader(settings.jobs_dir, "w1", encoder, told.put, told.put)
    reader.start()
    reader.submit(RunShard(spec.job_id, 0, attempt=1))
    failed = told.get(timeout=PATIENCE_S)
    assert isinstance(failed, ShardFailed) and failed.trouble is Trouble.STORAGE


@pytest.mark.parametrize("hide", [hide_spec, hide_directory])
def test_what_one_job_has_does_not_keep_the_others_out_of_a_wiped_redis(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    hide: Callable[[JobDir], Callable[[], None]],
) -> None:
    sick, well = make_job(), make_job()
    heal = hide(JobDir(settings.jobs_dir, sick.job_id))
    table.redis.flushall()
    keeper = Keeper(settings, "keeper")
    keeper._restore()
    assert table.open_jobs() == [well.job_id]
    assert table.redis.get(table.keys.restored) is not None  # it is not done again and again
    keeper._enter()
    assert table.open_jobs() == [well.job_id]
    heal()
    keeper._enter()
    assert table.open_jobs() == sorted([sick.job_id, well.job_id])
    keeper.stop()


def state_of(table: JobTable, job_id: str) -> JobState | None:
    snapshot = table.snapshot(job_id)
    return snapshot and snapshot.state


def test_what_one_keeper_could_not_restore_the_next_one_does(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    job_dir = JobDir(settings.jobs_dir, make_job().job_id)
    pause(settings, table, job_dir.job_id)
    entries = {name: table.redis.dump(name) for name in table.redis.scan_iter()}
    resume(settings, table, job_dir.job_id)
    table.redis.flushall()
    for name, entry in entries.items():
        table.redis.restore(name, 0, entry or b"")
    first, second = Keeper(settings, "first"), Keeper(settings, "second")
    with job_lock(job_dir):  # held by somebody who was stopped, say
        first._restore()
    first.stop()
    assert state_of(table, job_dir.job_id) is JobState.PAUSED  # as Redis had it
    second._restore()
    second._enter()
    assert state_of(table, job_dir.job_id) is JobState.QUEUED
    assert not table.redis.exists(table.keys.held_up)
    second.stop()


def test_a_job_of_an_older_table_is_brought_up_to_date_when_its_disk_is_well_again(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    land(spec, 0, 1, [LandedRow(row, None, RowStatus.SUCCEEDED, output="x") for row in range(4)])
    heal = hide_spec(JobDir(settings.jobs_dir, spec.job_id))
    keeper = Keeper(settings, "keeper")
    keeper._restore()
    heal()
    keeper._enter()
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.shards_landed == 1
    keeper.stop()


def test_other_overdue_jobs_expire(settings: Settings, table: JobTable, make_job: JobMaker) -> None:
    sick, busy, well = (make_job() for _ in range(3))
    for spec in (sick, busy, well):
        change(settings, table, spec.job_id, deadline_ms=1)
    hide_spec(JobDir(settings.jobs_dir, sick.job_id))
    keeper = Keeper(settings, "keeper")
    with job_lock(JobDir(settings.jobs_dir, busy.job_id)):  # by somebody who was stopped, say
        keeper._expire()
    states = [job and job.state for job in table.snapshots([s.job_id for s in (sick, busy, well)])]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.EXPIRED]
    keeper._expire()
    expired = table.snapshot(busy.job_id)
    assert expired is not None and expired.state is JobState.EXPIRED
    keeper.stop()


def test_a_job_that_is_being_changed_is_restored_later(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    pause(settings, table, spec.job_id)
    held_up: list[str] = []
    with job_lock(JobDir(settings.jobs_dir, spec.job_id)):
        rebuild_all(settings, table, on_held_up=held_up.append)
    assert held_up == [spec.job_id]


def test_whoever_changes_a_job_does_not_wait_for_ever(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    job_dir = JobDir(settings.jobs_dir, make_job().job_id)
    with (
        job_lock(job_dir),
        pytest.raises(JobBusy, match="another process is changing"),
        job_lock(job_dir, wait_s=0.05),
    ):
        raise AssertionError("two had the lock")
    assert pause(settings, table, job_dir.job_id).state is JobState.PAUSED


def test_a_stray_file_and_a_sick_directory_do_not_end_the_sweep(
    settings: Settings, make_job: JobMaker
) -> None:
    sick = JobDir(settings.jobs_dir, make_job().job_id)
    heal = hide_directory(sick)
    stray = settings.jobs_dir / "a_note"
    stray.write_text("not a job")
    half_made = JobDir(settings.jobs_dir, "job_zz_dead")
    half_made.create()
    for path in (stray, half_made.path, sick.path):
        os.utime(path, (0, 0), follow_symlinks=False)
    assert sweep(settings) == 1
    assert not half_made.path.exists() and stray.exists()
    heal()
    assert sick.read_spec().job_id == sick.job_id


def test_nothing_that_cannot_be_looked_into_is_swept(settings: Settings, tmp_path: Path) -> None:
    loop = settings.jobs_dir / "job_loop"
    settings.jobs_dir.mkdir(parents=True)
    loop.symlink_to(loop)
    os.utime(loop, (0, 0), follow_symlinks=False)
    assert sweep(settings) == 0 and loop.is_symlink()
