"""Failed rows run again, and their places are taken: once, whole, and whatever is killed."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs import joining
from penstock.jobs.errors import InvalidJob, UnknownJob
from penstock.jobs.job_dir import JobDir
from penstock.jobs.model import Counts, JobSpec, JobState, RowStatus, TaskSpec
from penstock.jobs.results import read_results
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.retrying import retry
from penstock.jobs.steering import change
from penstock.jobs.submission import PathSource, SubmitRequest, submit
from penstock.jobs.tenants import Tenants

from .landed_rows import rows_of, statuses
from .small_jobs import SmallJobs

FAILING = [1, 6, 7, 9]


@pytest.fixture
def failed_job(jobs: SmallJobs) -> JobSpec:
    """Ten rows in three shards, of which four failed."""
    return jobs.complete(failing=FAILING)


def test_failed_rows_run_again_and_take_their_places(jobs: SmallJobs, failed_job: JobSpec) -> None:
    made = jobs.retry(failed_job)
    assert (made.num_rows, made.retry_of) == (4, failed_job.job_id)
    assert jobs.snapshot(made).retry_of == failed_job.job_id
    assert jobs.snapshot(failed_job).state is JobState.COMPLETED_WITH_ERRORS
    before = {row["row_index"]: row for row in rows_of(failed_job)}
    jobs.run(made, failing=[7])
    assert statuses(failed_job)[1] == "failed", "its places are taken when all have landed"
    assert jobs.finalize(made) is JobState.COMPLETED_WITH_ERRORS

    for _ in range(2):  # and a wiped Redis learns of it
        job = jobs.snapshot(failed_job)
        assert job.counts == Counts(total=10, succeeded=9, failed=1)
        assert job.errors == {"engine_error": 1}
        assert (job.prompt_tokens, job.completion_tokens) == (50, 27)
        jobs.wipe()
        jobs.rebuild_all()
    after = {row["row_index"]: row for row in rows_of(failed_job)}
    assert sorted(index for index, row in after.items() if row["status"] == "failed") == [7]
    for index, row in after.items():
        if index not in FAILING:
            assert row == before[index]
        else:
            assert row["row_id"] == f"{failed_job.job_id}/{index}/0"
            assert (row["text"], row["custom_id"]) == (f"text {index}", f"r{index}")
            assert row["attempts"] == 2
    assert after[6]["output"] == "answer to text 6" and after[6]["error"] is None
    again = jobs.retry(failed_job)
    assert again.num_rows == 1
    jobs.run(again)
    assert jobs.finalize(again) is JobState.COMPLETED
    assert jobs.snapshot(failed_job).state is JobState.COMPLETED
    final = jobs.directory(failed_job).read_final()
    assert final is not None and final.state is JobState.COMPLETED
    assert set(statuses(failed_job).values()) == {"succeeded"}
    with pytest.raises(InvalidJob, match="has no row to retry"):
        jobs.retry(failed_job)
    page = read_results(jobs.table, failed_job, None, 100, RowStatus.FAILED)
    assert page.rows == []


def test_rows_are_chosen_by_their_error(jobs: SmallJobs, failed_job: JobSpec) -> None:
    with pytest.raises(InvalidJob, match="no row to retry that failed with no_such_code"):
        jobs.retry(failed_job, codes=frozenset({"no_such_code"}))
    with pytest.raises(InvalidJob, match="name at least one code, or leave codes out"):
        jobs.retry(failed_job, codes=frozenset())
    assert list(ResultsDir.of(failed_job).path.glob("_retries/*")) == []
    made = jobs.retry(failed_job, codes=frozenset({"engine_error"}))
    assert made.num_rows == 4
    assert jobs.retry(failed_job, codes=frozenset({"engine_error"})) == made
    with pytest.raises(InvalidJob, match=f"another retry of it runs: {made.job_id}"):
        jobs.retry(failed_job)
    jobs.cancel(made)
    assert jobs.retry(failed_job).job_id != made.job_id


def test_only_a_job_that_has_ended_is_retried(jobs: SmallJobs, failed_job: JobSpec) -> None:
    with pytest.raises(InvalidJob, match="has not ended"):
        jobs.retry(jobs.make())
    with pytest.raises(UnknownJob):
        retry(jobs.settings, jobs.table, "job_00000000000000000000000000")


def test_a_retry_of_a_retry_is_one_of_the_job(jobs: SmallJobs, failed_job: JobSpec) -> None:
    made = jobs.retry(failed_job)
    assert jobs.retry(made) == made, "it goes on"
    jobs.run(made, failing=[7])
    jobs.finalize(made)
    again = jobs.retry(made)
    assert (again.retry_of, again.num_rows) == (failed_job.job_id, 1)
    jobs.run(again)
    assert jobs.finalize(again) is JobState.COMPLETED
    assert set(statuses(failed_job).values()) == {"succeeded"}


def test_a_retry_of_some_codes_stands_for_no_others(jobs: SmallJobs, failed_job: JobSpec) -> None:
    made = jobs.retry(failed_job, codes=frozenset({"engine_error"}))
    jobs.cancel(made)
    told = (
        f"rows of {failed_job.job_id} that had failed with engine_error: retry {failed_job.job_id}"
    )
    with pytest.raises(InvalidJob, match=told):
        jobs.retry(made)
    assert jobs.retry(made, codes=frozenset({"engine_error"})).retry_of == failed_job.job_id


def test_a_retry_that_notes_no_codes_is_not_told_to_be_of_some(
    jobs: SmallJobs, failed_job: JobSpec
) -> None:
    made = jobs.retry(failed_job)
    older = replace(made, retry_codes=None)  # as an older Penstock wrote it
    JobDir(jobs.settings.jobs_dir, made.job_id).seal(older)
    told = rf"itself, of rows of {failed_job.job_id} \(an older Penstock did not note which\): "
    with pytest.raises(InvalidJob, match=told):
        jobs.retry(older)


def test_a_job_that_ended_early_is_brought_to_its_end(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec, [1], failing=[5])
    jobs.cancel(spec)
    made = jobs.retry(spec)
    assert made.num_rows == 7
    jobs.run(made)
    jobs.finalize(made)
    for _ in range(2):
        job = jobs.snapshot(spec)
        assert (job.state, job.counts) == (JobState.COMPLETED, Counts(total=10, succeeded=10))
        assert jobs.table.landed(spec.job_id, range(3)) == [True] * 3
        jobs.wipe()
        jobs.rebuild_all()
    assert statuses(spec) == dict.fromkeys(range(10), "succeeded")
    assert ResultsDir.of(spec).success.exists()


def test_rows_behind_rejected_lines_keep_their_numbers(jobs: SmallJobs, tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(f'{{"text": "t{i}"}}\n' if i % 3 else "broken\n" for i in range(12)))
    request = SubmitRequest(TaskSpec("fake", prompt="{{ row.text }}"), shard_rows=3)
    spec = submit(jobs.settings, jobs.table, PathSource(lines), request).spec
    jobs.run(spec, failing=[2, 8, 10])
    jobs.finalize(spec)
    jobs.rerun(spec)
    assert statuses(spec) == dict.fromkeys((1, 2, 4, 5, 7, 8, 10, 11), "succeeded")
    assert {row["row_index"]: row["text"] for row in rows_of(spec)}[8] == "t8"


def test_a_join_killed_between_two_parts_is_carried_through(
    jobs: SmallJobs, failed_job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jobs.retry(failed_job)
    jobs.run(made)
    write, num_written = joining.replace_file, 0

    def killed(path: Path, data: bytes, **options: Any) -> None:
        nonlocal num_written
        num_written += 1
        if num_written == 2:
            raise KeyboardInterrupt
        write(path, data, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(joining, "replace_file", killed)
        jobs.finalize(made)
    assert sorted(statuses(failed_job)) == list(range(10))
    assert not ResultsDir.of(failed_job).success.exists()
    assert jobs.snapshot(made).state is JobState.LANDING
    assert jobs.finalize(made) is JobState.COMPLETED
    assert set(statuses(failed_job).values()) == {"succeeded"}
    assert ResultsDir.of(failed_job).success.exists()


def test_a_stale_join_changes_nothing(jobs: SmallJobs, failed_job: JobSpec) -> None:
    """Who slept through the end of a retry, and of the next, does not bring its failures back."""
    first = jobs.rerun(failed_job, failing=FAILING)
    jobs.rerun(failed_job, failing=[7])
    assert jobs.finalize(first) is JobState.COMPLETED_WITH_ERRORS
    # Even so: no row that succeeded is ever replaced.
    joining.join(jobs.settings, jobs.table, first, JobState.COMPLETED_WITH_ERRORS)
    after = statuses(failed_job)
    assert [index for index, status in after.items() if status == "failed"] == [7]


def test_whoever_reads_the_folder_meanwhile_meets_every_row_once(jobs: SmallJobs) -> None:
    spec = jobs.complete(failing=range(0, 120, 5), num_rows=120, shard_rows=4)
    made = jobs.retry(spec)
    jobs.run(made)
    is_over = threading.Event()
    seen: list[dict[int, str]] = []

    def read() -> None:
        while not is_over.is_set():
            seen.append(statuses(spec))

    reader = threading.Thread(target=read)
    reader.start()
    jobs.finalize(made)
    is_over.set()
    reader.join()
    seen.append(statuses(spec))
    assert all(sorted(look) == list(range(120)) for look in seen)
    assert set(seen[-1].values()) == {"succeeded"}


def test_a_retry_takes_what_its_job_was_changed_to(jobs: SmallJobs) -> None:
    spec = jobs.make(name="first")
    change(
        jobs.settings, jobs.table, spec.job_id, priority=7, name="second", metadata={"team": "a"}
    )
    jobs.run(spec, failing=[1])
    jobs.finalize(spec)
    made = jobs.retry(spec)
    assert (made.priority, made.name, made.metadata) == (7, "retry of second", {"team": "a"})
    assert jobs.snapshot(made).priority == 7


def test_a_retry_keeps_no_priority_that_its_tenant_lost(jobs: SmallJobs) -> None:
    spec = jobs.make(priority=9)
    jobs.run(spec, failing=[1])
    jobs.finalize(spec)
    Tenants(jobs.settings.tenants_dir).change(spec.tenant, {"priority_ceiling": 2})
    assert jobs.retry(spec).priority == 2


def test_a_cancelled_retry_leaves_the_job_as_it_was(jobs: SmallJobs, failed_job: JobSpec) -> None:
    before = rows_of(failed_job)
    made = jobs.retry(failed_job, priority=3, name="again")
    assert (made.priority, made.name) == (3, "again")
    jobs.cancel(made)
    assert rows_of(failed_job) == before
    assert jobs.snapshot(failed_job).state is JobState.COMPLETED_WITH_ERRORS


def test_a_retry_lands_out_of_the_way_of_who_reads_all_jobs(
    jobs: SmallJobs, failed_job: JobSpec
) -> None:
    jobs.rerun(failed_job)
    found = Path(failed_job.out).glob("*/rows/*.parquet")
    assert len(list(found)) == failed_job.num_shards


def test_a_lost_part_is_made_again(jobs: SmallJobs, failed_job: JobSpec) -> None:
    ResultsDir.of(failed_job).part(0).unlink()
    made = jobs.retry(failed_job)
    assert made.num_rows == 7
    jobs.run(made)
    jobs.finalize(made)
    assert set(statuses(failed_job).values()) == {"succeeded"}


@pytest.mark.parametrize("state", [JobState.COMPLETED_WITH_ERRORS, JobState.RUNNING])
def test_a_redis_that_fell_back_behind_a_retry_learns_of_it(
    jobs: SmallJobs, failed_job: JobSpec, state: JobState
) -> None:
    key = jobs.table.keys.job(failed_job.job_id)
    older: Any = jobs.table.redis.hgetall(key)
    jobs.rerun(failed_job)
    jobs.table.redis.delete(key)
    jobs.table.redis.hset(key, mapping={**older, "state": state.value})
    assert failed_job.job_id in jobs.rebuild_all()
    job = jobs.snapshot(failed_job)
    assert (job.state, job.counts.succeeded, job.counts.failed) == (JobState.COMPLETED, 10, 0)
    assert jobs.rebuild_all() == []
