"""One queue on two disks: only what lies on the right one may be judged, and by whom."""

import queue
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.jobs.custody import Custody
from penstock.jobs.events import JobEvents
from penstock.jobs.frames import RunShard, ShardFailed, ToEngine, Trouble
from penstock.jobs.installation import installation_id, mark_installation
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import Keeper
from penstock.jobs.model import JobState, ShardRef
from penstock.jobs.reconciler import reconcile
from penstock.jobs.settings import Settings
from penstock.jobs.tasks import ShardReturned

from .conftest import JobMaker
from .live import live_queue


def lead(settings: Settings) -> bool:
    """Whether a keeper with these settings takes the lead."""
    keeper = Keeper(settings, "keeper")
    keeper.step()
    keeper._give_up_lead()
    keeper.stop()
    return keeper.is_leading


def test_a_directory_is_marked_once(tmp_path: Path) -> None:
    assert installation_id(tmp_path / "data") == ""
    marked = mark_installation(tmp_path / "data")
    assert marked and mark_installation(tmp_path / "data") == marked
    assert mark_installation(tmp_path / "other") != marked


def test_a_worker_with_another_disk_hands_back_and_claims_no_more(
    settings: Settings, table: JobTable, make_job: JobMaker, tmp_path: Path
) -> None:
    spec = make_job()
    table.redis.set(table.keys.installation, mark_installation(settings.data_dir))
    sent: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
    told: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()
    custody = Custody(
        replace(settings, data=str(tmp_path / "unmounted")),
        table,
        JobEvents(table.redis, table.keys),
        "w1",
        send=lambda frame: sent.put(frame) is None,
        on_job_landed=lambda job_id: None,
    )
    table.issue(spec.job_id, 100)
    custody.open(ShardRef(spec.job_id, 0), told.put)
    custody.step()
    order = sent.get_nowait()
    assert isinstance(order, RunShard)
    message = f"no job has the id {spec.job_id}"
    custody.failed(ShardFailed(spec.job_id, 0, order.attempt, message, Trouble.LASTING))
    custody.step()
    assert isinstance(told.get_nowait(), ShardReturned)
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.state is JobState.RUNNING
    assert "PENSTOCK_DATA" in (snapshot.error or "")

    assert custody.is_elsewhere
    custody.open(ShardRef(spec.job_id, 1), told.put)
    custody.step()
    assert isinstance(told.get_nowait(), ShardReturned)
    assert table.claim(ShardRef(spec.job_id, 1), "w2", 5_000).status == "granted"

    (tmp_path / "unmounted").symlink_to(settings.data_dir)  # the disk is there after all
    custody._renew()
    assert not custody.is_elsewhere


def test_a_keeper_with_another_disk_does_not_lead(
    settings: Settings, table: JobTable, tmp_path: Path
) -> None:
    elsewhere = replace(settings, data=str(tmp_path / "unmounted"))
    home = mark_installation(settings.data_dir)
    assert lead(settings)
    assert table.redis.get(table.keys.installation) == home
    assert not lead(elsewhere)
    mark_installation(elsewhere.data_dir)
    assert not lead(elsewhere)
    assert lead(settings)


def test_one_that_was_elsewhere_does_not_take_over_a_wiped_redis(
    settings: Settings, table: JobTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.jobs.keeper._ELECTION_S", 0.0)
    mark_installation(tmp_path / "other")
    table.redis.set(table.keys.installation, mark_installation(settings.data_dir))
    keeper = Keeper(replace(settings, data=str(tmp_path / "other")), "misplaced")
    keeper.step()
    table.redis.flushall()
    keeper.step()
    assert not keeper.is_leading
    assert table.redis.get(table.keys.installation) is None
    assert lead(settings)
    keeper.stop()


def test_an_end_that_only_the_table_knows_is_undone(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    assert table.finish(spec.job_id, JobState.FAILED, "not found")
    assert reconcile(settings, table, spec.job_id)
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and (snapshot.state, snapshot.error) == (JobState.QUEUED, None)
    assert table.issue(spec.job_id, 100) == [0, 1, 2]
    assert table.list(tenant=spec.tenant)[0].job_id == spec.job_id


def test_a_job_completes_beside_a_worker_that_has_another_disk(tmp_path: Path) -> None:
    with live_queue(tmp_path) as live:
        mark_installation(live.settings.data_dir)
        prompts = [f"prompt {number}" for number in range(64)]
        live.start_worker()
        live.start_worker(data=str(tmp_path / "unmounted"))
        spec = live.submit(prompts, shard_rows=4)
        assert live.wait_until_done(spec).state is JobState.COMPLETED
        assert JobDir(live.settings.jobs_dir, spec.job_id).read_final() is not None
        live.check_rows(spec, prompts)
