"""Joining the rows of a retry again and again, while disks rot and stores are away."""

import fcntl
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from penstock.jobs import joining
from penstock.jobs.errors import InvalidJob
from penstock.jobs.model import JobSnapshot, JobSpec, JobState
from penstock.jobs.object_store import StoreUnavailable
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.sealed_input import CorruptInput, CorruptShard

from .conftest import flipped
from .landed_rows import rows_of, statuses
from .small_jobs import SmallJobs

FAILING = [1, 6, 9]  # one in each shard


@pytest.fixture
def failed_job(jobs: SmallJobs) -> JobSpec:
    """Ten rows in three shards, in each of which one failed."""
    return jobs.complete(failing=FAILING)


def rot(jobs: SmallJobs, spec: JobSpec, shards: list[int]) -> None:
    path = jobs.directory(spec).input
    for shard in shards:
        with pq.ParquetFile(path) as file:
            place = file.metadata.row_group(shard).column(2).data_page_offset + 30
        path.write_bytes(flipped(path.read_bytes(), place))


def attempts_of(spec: JobSpec) -> dict[int, int]:
    return {row["row_index"]: row["attempts"] for row in rows_of(spec)}


def held_up(job: JobSnapshot) -> str:
    return (job.status_reason or "").partition(": cannot")[0]


@pytest.mark.parametrize("codes", [None, frozenset({"engine_error"})])
def test_what_has_rotted_is_not_retried_and_the_rest_is(
    jobs: SmallJobs, failed_job: JobSpec, codes: frozenset[str] | None
) -> None:
    rot(jobs, failed_job, [1])
    assert jobs.retry(failed_job, codes=codes).num_rows == 2


def test_rot_where_nothing_was_chosen_is_not_met(jobs: SmallJobs, failed_job: JobSpec) -> None:
    rot(jobs, failed_job, [0, 1, 2])
    with pytest.raises(InvalidJob, match="no row to retry that failed with no_such_code"):
        jobs.retry(failed_job, codes=frozenset({"no_such_code"}))


def test_a_retry_of_nothing_but_rot_says_so(jobs: SmallJobs, failed_job: JobSpec) -> None:
    rot(jobs, failed_job, [0, 1, 2])
    with pytest.raises(CorruptShard, match="cannot read shard 2"):
        jobs.retry(failed_job)
    assert list(ResultsDir.of(failed_job).path.glob("_retries/*")) == []


def test_input_that_rots_under_a_retry_does_not_hold_it_up(
    jobs: SmallJobs, failed_job: JobSpec
) -> None:
    made = jobs.retry(failed_job)
    jobs.run(made)
    rot(jobs, failed_job, [0, 1, 2])
    assert jobs.finalize(made) is JobState.COMPLETED
    assert statuses(failed_job) == dict.fromkeys(range(10), "succeeded")
    assert ResultsDir.of(failed_job).success.exists()


def test_a_retry_that_cannot_be_joined_tells_why_and_leaves_the_job_complete(
    jobs: SmallJobs, failed_job: JobSpec
) -> None:
    made = jobs.retry(failed_job)
    jobs.run(made)
    path = jobs.directory(failed_job).input
    data = path.read_bytes()
    path.write_bytes(flipped(data, len(data) - 20))  # in the footer
    with pytest.raises(CorruptInput):
        jobs.finalize(made)
    assert held_up(jobs.snapshot(made)).startswith("held_up: corrupt_input")
    assert ResultsDir.of(failed_job).success.exists()
    path.write_bytes(data)
    assert jobs.finalize(made) is JobState.COMPLETED


def test_parts_are_joined_once_however_often_their_copy_breaks_off(
    jobs: SmallJobs, failed_job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bool:
        raise StoreUnavailable("away")

    made = jobs.retry(failed_job)
    jobs.run(made, failing=FAILING)
    parts = ResultsDir.of(failed_job).parts()
    joined: set[tuple[int, ...]] = set()
    with monkeypatch.context() as patch:
        patch.setattr(joining, "publish", away)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                jobs.finalize(made)
            joined.add(tuple(path.stat().st_ino for path in parts.values()))
    assert len(joined) == 1
    assert jobs.finalize(made) is JobState.COMPLETED_WITH_ERRORS
    assert attempts_of(failed_job) == {row: 1 + (row in FAILING) for row in range(10)}
    jobs.rerun(failed_job, failing=FAILING)
    assert attempts_of(failed_job) == {row: 1 + 2 * (row in FAILING) for row in range(10)}


def test_nothing_is_touched_while_the_store_is_away(
    jobs: SmallJobs, failed_job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def check(self) -> None:
            raise StoreUnavailable("away")

    made = jobs.retry(failed_job)
    jobs.run(made)
    before = rows_of(failed_job)
    monkeypatch.setattr(joining, "store_of", lambda *_: Away())
    with pytest.raises(StoreUnavailable):
        jobs.finalize(made)
    assert rows_of(failed_job) == before
    assert ResultsDir.of(failed_job).success.exists()


def test_a_job_can_be_changed_while_it_is_copied(
    jobs: SmallJobs, failed_job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jobs.retry(failed_job)
    jobs.run(made)
    lock = jobs.directory(failed_job).path / ".lock"
    copied: list[Path] = []

    def publish(*_: Any) -> bool:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or BlockingIOError
        copied.append(lock)
        return True

    monkeypatch.setattr(joining, "publish", publish)
    assert jobs.finalize(made) is JobState.COMPLETED
    assert copied == [lock]
