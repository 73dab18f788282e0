import errno
import hashlib
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
from penstock.jobs.reconciler import rebuild_all
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings

from .conftest import JobMaker, ShardRunner, flipped


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
        data = path.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
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


@pytest.mark.parametrize("damage", ["gone", "cut short", "a byte"])
def test_a_shard_whose_landed_part_is_damaged_runs_again(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner, damage: str
) -> None:
    spec = make_job()
    run_shards(spec, failing=[5])
    results = ResultsDir.of(spec)
    part = results.part(1)
    data = part.read_bytes()
    if damage == "gone":
        part.unlink()
    elif damage == "cut short":
        part.write_bytes(data[:100])
    else:
        part.write_bytes(flipped(data, len(data) // 2))
    assert finalize(settings, table, spec.job_id) is None
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.RUNNING
    assert "part-000001.parquet" in (snapshot.error or "")
    assert ("checksum_mismatch" in (snapshot.error or "")) is (damage == "a byte")
    assert (snapshot.counts.succeeded, snapshot.counts.failed, snapshot.shards_landed) == (6, 0, 2)
    assert not part.exists()
    assert len(list(results.damaged.glob("*"))) == (damage != "gone")
    run_shards(spec, failing=[5])  # the one shard that is issued again
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED_WITH_ERRORS
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.counts.succeeded, snapshot.counts.failed) == (9, 1)
    assert (snapshot.prompt_tokens, snapshot.completion_tokens) == (50, 27)
    assert snapshot.errors == {"engine_error": 1}


def test_a_part_that_is_damaged_before_its_commit_runs_again(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec)
    part = ResultsDir.of(spec).part(2)
    part.write_bytes(flipped(part.read_bytes(), 700))
    table.redis.flushall()
    assert rebuild_all(settings, table) == [spec.job_id]
    assert finalize(settings, table, spec.job_id) is None
    commits = run_shards(spec)
    assert [commit.status for commit in commits] == ["committed"]
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


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
    assert (snapshot.status_reason or "").startswith("held_up: storage_full: no space left for")
    assert table.open_jobs() == [spec.job_id]
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


def test_an_unknown_job_is_told(settings: Settings, table: JobTable) -> None:
    with pytest.raises(UnknownJob):
        finalize(settings, table, "job_ghost")
