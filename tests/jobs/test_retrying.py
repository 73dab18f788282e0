"""Failed rows run again, and their places are taken: once, whole, and whatever is killed."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from penstock.jobs import joining
from penstock.jobs.ending import cancel
from penstock.jobs.errors import InvalidJob, UnknownJob
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.manifest import finalize
from penstock.jobs.model import Counts, JobSnapshot, JobSpec, JobState, RowStatus, TaskSpec
from penstock.jobs.reconciler import rebuild_all
from penstock.jobs.results import read_results
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.retrying import retry
from penstock.jobs.settings import Settings
from penstock.jobs.steering import change
from penstock.jobs.submission import PathSource, SubmitRequest, submit

from .conftest import JobMaker, ShardRunner

FAILING = [1, 6, 7, 9]


@pytest.fixture
def failed_job(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> JobSpec:
    """Ten rows in three shards, of which four failed."""
    spec = make_job()
    run_shards(spec, failing=FAILING)
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED_WITH_ERRORS
    return spec


def snapshot_of(table: JobTable, spec: JobSpec) -> JobSnapshot:
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    return snapshot


def rows_of(spec: JobSpec) -> list[dict[str, Any]]:
    """The rows as somebody reads them who knows nothing but the folder."""
    rows: list[dict[str, Any]] = []
    for path in sorted(ResultsDir.of(spec).rows.glob("*.parquet")):
        # `read_table` opens a path twice, and may meet an old footer and a new part's pages.
        with pq.ParquetFile(path) as part:
            rows += part.read().to_pylist()
    return rows


def statuses(spec: JobSpec) -> dict[int, str]:
    rows = rows_of(spec)
    assert all(count == 1 for count in Counter(row["row_index"] for row in rows).values())
    return {row["row_index"]: row["status"] for row in rows}


def test_failed_rows_run_again_and_take_their_places(
    settings: Settings, table: JobTable, failed_job: JobSpec, run_shards: ShardRunner
) -> None:
    made = retry(settings, table, failed_job.job_id)
    assert (made.num_rows, made.retry_of) == (4, failed_job.job_id)
    assert snapshot_of(table, made).retry_of == failed_job.job_id
    assert snapshot_of(table, failed_job).state is JobState.COMPLETED_WITH_ERRORS
    before = {row["row_index"]: row for row in rows_of(failed_job)}
    run_shards(made, failing=[7])
    assert statuses(failed_job)[1] == "failed", "its places are taken when all have landed"
    assert finalize(settings, table, made.job_id) is JobState.COMPLETED_WITH_ERRORS

    for _ in range(2):  # and a wiped Redis learns of it
        job = snapshot_of(table, failed_job)
        assert job.counts == Counts(total=10, succeeded=9, failed=1)
        assert job.errors == {"engine_error": 1}
        assert (job.prompt_tokens, job.completion_tokens) == (50, 27)
        table.redis.flushall()
        rebuild_all(settings, table)
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
    again = retry(settings, table, failed_job.job_id)
    assert again.num_rows == 1
    run_shards(again)
    assert finalize(settings, table, again.job_id) is JobState.COMPLETED
    assert snapshot_of(table, failed_job).state is JobState.COMPLETED
    final = JobDir(settings.jobs_dir, failed_job.job_id).read_final()
    assert final is not None and final.state is JobState.COMPLETED
    assert set(statuses(failed_job).values()) == {"succeeded"}
    with pytest.raises(InvalidJob, match="has no row to retry"):
        retry(settings, table, failed_job.job_id)
    page = read_results(table, failed_job, None, 100, RowStatus.FAILED)
    assert page.rows == []


def test_rows_are_chosen_by_their_error(
    settings: Settings, table: JobTable, failed_job: JobSpec
) -> None:
    with pytest.raises(InvalidJob, match="no row to retry that failed with no_such_code"):
        retry(settings, table, failed_job.job_id, codes=frozenset({"no_such_code"}))
    assert list(ResultsDir.of(failed_job).path.glob("_retries/*")) == []
    made = retry(settings, table, failed_job.job_id, codes=frozenset({"engine_error"}))
    assert made.num_rows == 4
    assert retry(settings, table, failed_job.job_id, codes=frozenset({"engine_error"})) == made
    with pytest.raises(InvalidJob, match=f"another retry of it runs: {made.job_id}"):
        retry(settings, table, failed_job.job_id)
    cancel(settings, table, made.job_id)
    assert retry(settings, table, failed_job.job_id).job_id != made.job_id


def test_only_a_job_that_has_ended_is_retried(
    settings: Settings, table: JobTable, make_job: JobMaker, failed_job: JobSpec
) -> None:
    with pytest.raises(InvalidJob, match="has not ended"):
        retry(settings, table, make_job().job_id)
    made = retry(settings, table, failed_job.job_id)
    with pytest.raises(InvalidJob, match=f"is a retry itself: retry {failed_job.job_id}"):
        retry(settings, table, made.job_id)
    with pytest.raises(UnknownJob):
        retry(settings, table, "job_00000000000000000000000000")


def test_a_job_that_ended_early_is_brought_to_its_end(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec, [1], failing=[5])
    cancel(settings, table, spec.job_id)
    made = retry(settings, table, spec.job_id)
    assert made.num_rows == 7
    run_shards(made)
    finalize(settings, table, made.job_id)
    for _ in range(2):
        job = snapshot_of(table, spec)
        assert (job.state, job.counts) == (JobState.COMPLETED, Counts(total=10, succeeded=10))
        assert table.landed(spec.job_id, range(3)) == [True] * 3
        table.redis.flushall()
        rebuild_all(settings, table)
    assert statuses(spec) == dict.fromkeys(range(10), "succeeded")
    assert ResultsDir.of(spec).success.exists()


def test_rows_behind_rejected_lines_keep_their_numbers(
    settings: Settings, table: JobTable, tmp_path: Path, run_shards: ShardRunner
) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(f'{{"text": "t{i}"}}\n' if i % 3 else "broken\n" for i in range(12)))
    request = SubmitRequest(TaskSpec("fake", prompt="{{ row.text }}"), shard_rows=3)
    spec = submit(settings, table, PathSource(lines), request).spec
    run_shards(spec, failing=[2, 8, 10])
    finalize(settings, table, spec.job_id)
    made = retry(settings, table, spec.job_id)
    run_shards(made)
    finalize(settings, table, made.job_id)
    assert statuses(spec) == dict.fromkeys((1, 2, 4, 5, 7, 8, 10, 11), "succeeded")
    assert {row["row_index"]: row["text"] for row in rows_of(spec)}[8] == "t8"


def test_a_join_killed_between_two_parts_is_carried_through(
    settings: Settings,
    table: JobTable,
    failed_job: JobSpec,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = retry(settings, table, failed_job.job_id)
    run_shards(made)
    write, num_written = joining.replace_file, 0

    def killed(path: Path, data: bytes, **options: Any) -> None:
        nonlocal num_written
        num_written += 1
        if num_written == 2:
            raise KeyboardInterrupt
        write(path, data, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(joining, "replace_file", killed)
        finalize(settings, table, made.job_id)
    assert sorted(statuses(failed_job)) == list(range(10))
    assert not ResultsDir.of(failed_job).success.exists()
    assert snapshot_of(table, made).state is JobState.LANDING
    assert finalize(settings, table, made.job_id) is JobState.COMPLETED
    assert set(statuses(failed_job).values()) == {"succeeded"}
    assert ResultsDir.of(failed_job).success.exists()


def test_a_stale_join_changes_nothing(
    settings: Settings, table: JobTable, failed_job: JobSpec, run_shards: ShardRunner
) -> None:
    """Who slept through the end of a retry, and of the next, does not bring its failures back."""
    first = retry(settings, table, failed_job.job_id)
    run_shards(first, failing=FAILING)
    finalize(settings, table, first.job_id)
    second = retry(settings, table, failed_job.job_id)
    run_shards(second, failing=[7])
    finalize(settings, table, second.job_id)
    assert finalize(settings, table, first.job_id) is JobState.COMPLETED_WITH_ERRORS
    joining.join(
        settings, table, first, JobState.COMPLETED_WITH_ERRORS
    )  # even so: no row that succeeded is ever replaced
    after = statuses(failed_job)
    assert [index for index, status in after.items() if status == "failed"] == [7]


def test_whoever_reads_the_folder_meanwhile_meets_every_row_once(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=120, shard_rows=4)
    run_shards(spec, failing=range(0, 120, 5))
    finalize(settings, table, spec.job_id)
    made = retry(settings, table, spec.job_id)
    run_shards(made)
    is_over = threading.Event()
    seen: list[dict[int, str]] = []

    def read() -> None:
        while not is_over.is_set():
            seen.append(statuses(spec))

    reader = threading.Thread(target=read)
    reader.start()
    finalize(settings, table, made.job_id)
    is_over.set()
    reader.join()
    seen.append(statuses(spec))
    assert all(sorted(look) == list(range(120)) for look in seen)
    assert set(seen[-1].values()) == {"succeeded"}


def test_a_retry_takes_what_its_job_was_changed_to(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(name="first")
    change(settings, table, spec.job_id, priority=7, name="second", metadata={"team": "a"})
    run_shards(spec, failing=[1])
    finalize(settings, table, spec.job_id)
    made = retry(settings, table, spec.job_id)
    assert (made.priority, made.name, made.metadata) == (7, "retry of second", {"team": "a"})
    snapshot = table.snapshot(made.job_id)
    assert snapshot is not None and snapshot.priority == 7


def test_a_cancelled_retry_leaves_the_job_as_it_was(
    settings: Settings, table: JobTable, failed_job: JobSpec, run_shards: ShardRunner
) -> None:
    before = rows_of(failed_job)
    made = retry(settings, table, failed_job.job_id, priority=3, name="again")
    assert (made.priority, made.name) == (3, "again")
    cancel(settings, table, made.job_id)
    assert rows_of(failed_job) == before
    assert snapshot_of(table, failed_job).state is JobState.COMPLETED_WITH_ERRORS


def test_a_retry_lands_out_of_the_way_of_who_reads_all_jobs(
    settings: Settings, table: JobTable, failed_job: JobSpec, run_shards: ShardRunner
) -> None:
    made = retry(settings, table, failed_job.job_id)
    run_shards(made)
    finalize(settings, table, made.job_id)
    found = Path(failed_job.out).glob("*/rows/*.parquet")
    assert len(list(found)) == failed_job.num_shards


def test_a_lost_part_is_made_again(
    settings: Settings, table: JobTable, failed_job: JobSpec, run_shards: ShardRunner
) -> None:
    ResultsDir.of(failed_job).part(0).unlink()
    made = retry(settings, table, failed_job.job_id)
    assert made.num_rows == 7
    run_shards(made)
    finalize(settings, table, made.job_id)
    assert set(statuses(failed_job).values()) == {"succeeded"}


@pytest.mark.parametrize("state", [JobState.COMPLETED_WITH_ERRORS, JobState.RUNNING])
def test_a_redis_that_fell_back_behind_a_retry_learns_of_it(
    settings: Settings,
    table: JobTable,
    failed_job: JobSpec,
    run_shards: ShardRunner,
    state: JobState,
) -> None:
    key = table.keys.job(failed_job.job_id)
    older: Any = table.redis.hgetall(key)
    made = retry(settings, table, failed_job.job_id)
    run_shards(made)
    finalize(settings, table, made.job_id)
    table.redis.delete(key)
    table.redis.hset(key, mapping={**older, "state": state.value})
    assert failed_job.job_id in rebuild_all(settings, table)
    job = snapshot_of(table, failed_job)
    assert (job.state, job.counts.succeeded, job.counts.failed) == (JobState.COMPLETED, 10, 0)
    assert rebuild_all(settings, table) == []
