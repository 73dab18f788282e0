"""A job is complete when its manifest says so, of parts that were all read once more."""

import errno
import hashlib
import json
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from penstock.jobs import durable
from penstock.jobs.durable import StorageFull
from penstock.jobs.errors import UnknownJob
from penstock.jobs.file_lock import file_lock
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobState
from penstock.jobs.results_dir import ResultsDir
from tests.waiting import PATIENCE_S

from .conftest import flipped
from .small_jobs import SmallJobs


def test_a_landed_job_is_completed_with_its_manifest(jobs: SmallJobs) -> None:
    spec = jobs.make(num_rows=10, shard_rows=4)
    assert jobs.run(spec)[-1].left == 0
    results = ResultsDir.of(spec)
    (results.temporary / "left by a killed writer").touch()
    assert jobs.finalize(spec) is JobState.COMPLETED
    manifest = json.loads(results.manifest.read_text())
    assert manifest["counts"] == {
        "total": 10,
        "succeeded": 10,
        "failed": 0,
        "unparsed": 0,
        "rejected": 0,
    }
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
    snapshot = jobs.snapshot(spec)
    final = jobs.directory(spec).read_final()
    assert snapshot is not None and final is not None
    assert (snapshot.state, final.state) == (JobState.COMPLETED, JobState.COMPLETED)
    assert snapshot.finished_at_ms == final.at_ms
    before = results.manifest.read_bytes()
    assert jobs.finalize(spec) is JobState.COMPLETED
    assert results.manifest.read_bytes() == before


def test_failed_rows_make_a_job_completed_with_errors(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec, failing=[3])
    assert jobs.finalize(spec) is JobState.COMPLETED_WITH_ERRORS
    manifest = json.loads(ResultsDir.of(spec).manifest.read_text())
    assert manifest["counts"] == {
        "total": 10,
        "succeeded": 9,
        "failed": 1,
        "unparsed": 0,
        "rejected": 0,
    }


def test_a_job_is_not_completed_before_its_last_shard(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec, [0, 2])
    assert jobs.finalize(spec) is None
    results = ResultsDir.of(spec)
    assert not results.manifest.exists()
    assert not results.success.exists()
    snapshot = jobs.snapshot(spec)
    assert snapshot.state is JobState.RUNNING


def test_several_finalizers_do_no_harm(jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def patiently(path: Path, **_: float) -> AbstractContextManager[int | None]:
        return file_lock(path, wait_s=PATIENCE_S)  # however long the disk takes for the others

    monkeypatch.setattr("penstock.jobs.control.file_lock", patiently)
    spec = jobs.make(num_rows=40, shard_rows=4)
    jobs.run(spec)
    states: list[JobState | None] = []
    threads = [
        threading.Thread(target=lambda: states.append(jobs.finalize(spec))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == [JobState.COMPLETED] * 4
    assert len(json.loads(ResultsDir.of(spec).manifest.read_text())["parts"]) == 10


def test_a_cancelled_job_stays_cancelled(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec, [0])
    jobs.cancel(spec)
    assert jobs.finalize(spec) is JobState.CANCELLED
    assert not ResultsDir.of(spec).success.exists()


def test_parts_linked_and_not_committed_are_counted_at_last(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec)
    jobs.wipe()
    jobs.table.create(spec)  # a table that has forgotten every commit
    assert jobs.finalize(spec) is JobState.COMPLETED
    snapshot = jobs.snapshot(spec)
    assert (snapshot.counts.succeeded, snapshot.shards_landed) == (10, 3)


@pytest.mark.parametrize("damage", ["gone", "cut short", "a byte"])
def test_a_shard_whose_landed_part_is_damaged_runs_again(jobs: SmallJobs, damage: str) -> None:
    spec = jobs.make()
    jobs.run(spec, failing=[5])
    results = ResultsDir.of(spec)
    part = results.part(1)
    data = part.read_bytes()
    if damage == "gone":
        part.unlink()
    elif damage == "cut short":
        part.write_bytes(data[:100])
    else:
        part.write_bytes(flipped(data, len(data) // 2))
    assert jobs.finalize(spec) is None
    snapshot = jobs.snapshot(spec)
    assert snapshot.state is JobState.RUNNING
    assert "part-000001.parquet" in (snapshot.error or "")
    assert ("checksum_mismatch" in (snapshot.error or "")) is (damage == "a byte")
    assert (snapshot.counts.succeeded, snapshot.counts.failed, snapshot.shards_landed) == (6, 0, 2)
    assert not part.exists()
    assert len(list(results.damaged.glob("*"))) == (damage != "gone")
    jobs.run(spec, failing=[5])  # the one shard that is issued again
    assert jobs.finalize(spec) is JobState.COMPLETED_WITH_ERRORS
    snapshot = jobs.snapshot(spec)
    assert (snapshot.counts.succeeded, snapshot.counts.failed) == (9, 1)
    assert (snapshot.prompt_tokens, snapshot.completion_tokens) == (50, 27)
    assert snapshot.errors == {"engine_error": 1}


def test_a_part_that_is_damaged_before_its_commit_runs_again(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec)
    part = ResultsDir.of(spec).part(2)
    part.write_bytes(flipped(part.read_bytes(), 700))
    jobs.wipe()
    assert jobs.rebuild_all() == [spec.job_id]
    assert jobs.finalize(spec) is None
    commits = jobs.run(spec)
    assert [commit.status for commit in commits] == ["committed"]
    assert jobs.finalize(spec) is JobState.COMPLETED


def test_a_full_disk_leaves_the_job_landing_until_there_is_room(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = jobs.make()
    jobs.run(spec)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "write", fail)
        with pytest.raises(StorageFull):
            jobs.finalize(spec)
    snapshot = jobs.snapshot(spec)
    assert snapshot.state is JobState.LANDING
    assert (snapshot.status_reason or "").startswith("held_up: storage_full: no space left for")
    assert jobs.table.open_jobs() == [spec.job_id]
    assert jobs.finalize(spec) is JobState.COMPLETED


def test_an_unknown_job_is_told(jobs: SmallJobs) -> None:
    with pytest.raises(UnknownJob):
        finalize(jobs.settings, jobs.table, "job_ghost")
