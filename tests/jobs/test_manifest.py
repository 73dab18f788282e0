import errno
import json
import threading

import pyarrow.parquet as pq
import pytest

from penstock.jobs import durable
from penstock.jobs.durable import StorageFull
from penstock.jobs.ending import cancel
from penstock.jobs.errors import UnknownJob
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobState
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings

from .conftest import JobMaker, ShardRunner


def test_a_landed_job_is_completed_with_its_manifest(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=10, shard_rows=4)
    assert run_shards(spec)[-1].left == 0
    results = ResultsDir.of(spec)
    (results.temporary / "left by a killed writer").touch()
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED
    manifest = json.loads(results.manifest.read_text())
    assert manifest["counts"] == {"total": 10, "succeeded": 10, "failed": 0, "rejected": 0}
    assert manifest["usage"] == {
        "prompt_tokens": 50,
        "completion_tokens": 30,
        "cached_tokens": 10,
    }
    assert [part["path"] for part in manifest["parts"]] == [
        f"rows/part-{index:06}.parquet" for index in range(3)
    ]
    assert [part["rows"] for part in manifest["parts"]] == [4, 4, 2]
    for part in manifest["parts"]:
        path = results.path / part["path"]
        assert path.stat().st_size == part["bytes"]
        assert pq.read_schema(path).names == [column["name"] for column in manifest["schema"]]
    assert manifest["spec"]["task"]["prompt"] == "{{ row.text }}"
    assert results.success.exists()
    assert not results.temporary.exists()
    snapshot = table.snapshot(spec.job_id)
    final = JobDir(settings.jobs_dir, spec.job_id).read_final()
    assert snapshot is not None and final is not None
    assert (snapshot.state, final.state) == (JobState.COMPLETED, JobState.COMPLETED)
    assert snapshot.finished_at_ms == final.at_ms
    before = results.manifest.read_bytes()
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED
    assert results.manifest.read_bytes() == before


def test_failed_rows_make_a_job_completed_with_errors(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec, failing=[3])
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED_WITH_ERRORS
    manifest = json.loads(ResultsDir.of(spec).manifest.read_text())
    assert manifest["counts"] == {"total": 10, "succeeded": 9, "failed": 1, "rejected": 0}


def test_a_job_is_not_completed_before_its_last_shard(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec, [0, 2])
    assert finalize(settings, table, spec.job_id) is None
    results = ResultsDir.of(spec)
    assert not results.manifest.exists()
    assert not results.success.exists()
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.state is JobState.RUNNING


def test_several_finalizers_do_no_harm(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=40, shard_rows=4)
    run_shards(spec)
    states: list[JobState | None] = []
    threads = [
        threading.Thread(target=lambda: states.append(finalize(settings, table, spec.job_id)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == [JobState.COMPLETED] * 4
    assert len(json.loads(ResultsDir.of(spec).manifest.read_text())["parts"]) == 10


def test_a_cancelled_job_stays_cancelled(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec, [0])
    cancel(settings, table, spec.job_id)
    assert finalize(settings, table, spec.job_id) is JobState.CANCELLED
    assert not ResultsDir.of(spec).success.exists()


def test_parts_linked_and_not_committed_are_counted_at_last(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec)
    table.redis.flushall()
    table.create(spec)  # a table that has forgotten every commit
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.counts.succeeded, snapshot.shards_landed) == (10, 3)


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_job_whose_landed_part_is_lost_fails_and_says_which(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner, damage: str
) -> None:
    spec = make_job()
    run_shards(spec)
    part = ResultsDir.of(spec).part(1)
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:100])
    assert finalize(settings, table, spec.job_id) is JobState.FAILED
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.FAILED
    assert "part-000001.parquet" in (snapshot.error or "")


def test_a_full_disk_leaves_the_job_landing_until_there_is_room(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = make_job()
    run_shards(spec)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "write", fail)
        with pytest.raises(StorageFull):
            finalize(settings, table, spec.job_id)
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.state is JobState.LANDING
    assert table.open_jobs() == [spec.job_id]
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


def test_an_unknown_job_is_told(settings: Settings, table: JobTable) -> None:
    with pytest.raises(UnknownJob):
        finalize(settings, table, "job_ghost")
