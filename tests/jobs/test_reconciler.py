from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.ending import cancel
from penstock.jobs.errors import UnknownJob
from penstock.jobs.job_dir import Final, JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import land
from penstock.jobs.manifest import finalize
from penstock.jobs.model import Counts, JobState, ShardRef
from penstock.jobs.reconciler import rebuild_all, reconcile
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings

from .conftest import JobMaker, ShardRunner
from .small_jobs import answered


def test_a_wiped_redis_comes_back_as_it_was(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    fresh = make_job()
    completed, failing, cancelled, early = (make_job() for _ in range(4))
    run_shards(completed)
    finalize(settings, table, completed.job_id)
    run_shards(failing, failing=[1, 5])
    finalize(settings, table, failing.job_id)
    run_shards(cancelled, [1])
    cancel(settings, table, cancelled.job_id)
    cancel(settings, table, early.job_id)
    before = table.list()
    assert {job.state for job in before} == {
        JobState.QUEUED,
        JobState.COMPLETED,
        JobState.COMPLETED_WITH_ERRORS,
        JobState.CANCELLED,
    }
    table.redis.flushall()
    rebuilt = rebuild_all(settings, table)
    assert rebuilt[0] == fresh.job_id  # it waits for work
    assert sorted(rebuilt) == sorted(job.job_id for job in before)
    assert sorted(table.list(), key=lambda job: job.job_id) == sorted(
        before, key=lambda job: job.job_id
    )
    assert table.open_jobs() == [fresh.job_id]
    assert rebuild_all(settings, table) == []


def test_a_job_wiped_in_the_middle_is_finished_without_doing_twice_what_has_landed(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=40, shard_rows=4)
    run_shards(spec, [0, 3, 4, 9])
    table.claim(ShardRef(spec.job_id, 1), "w1", 60_000)
    before = table.snapshot(spec.job_id)
    assert before is not None
    table.redis.flushall()
    assert reconcile(settings, table, spec.job_id)
    after = table.snapshot(spec.job_id)
    assert after is not None
    assert after.state is JobState.RUNNING
    assert after.counts == Counts(total=40, pending=24, succeeded=16)  # the lease is forgotten
    assert after.completion_tokens == before.completion_tokens
    assert after.started_at_ms == 1_700_000_001_000  # when its first row began
    assert table.issue(spec.job_id, 100) == [1, 2, 5, 6, 7, 8]
    run_shards(spec, [1, 2, 5, 6, 7, 8])
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


def test_a_part_linked_by_a_worker_that_died_before_its_commit_is_counted(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    claim = table.claim(ShardRef(spec.job_id, 0), "w1", 60_000)
    with JobDir(settings.jobs_dir, spec.job_id).open_input() as sealed:
        counts = land(spec, 0, claim.attempt, [answered(row) for row in sealed.shard(0)])
    assert rebuild_all(settings, table) == [spec.job_id]
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.counts.succeeded, snapshot.shards_landed) == (4, 1)
    # The worker was only slow: its commit finds that it is counted.
    ref = ShardRef(spec.job_id, 0)
    assert table.commit(ref, claim.attempt, counts).status == "duplicate"
    assert rebuild_all(settings, table) == []


def test_a_job_that_ended_on_disk_ends_in_the_table(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    JobDir(settings.jobs_dir, spec.job_id).write_final(
        Final(JobState.FAILED, at_ms=1_700_000_003_000, error="why")
    )
    assert reconcile(settings, table, spec.job_id)
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.state, snapshot.error) == (JobState.FAILED, "why")
    assert snapshot.finished_at_ms == 1_700_000_003_000
    assert table.issue(spec.job_id, 10) == []


def test_what_is_no_job_and_what_cannot_be_read_keeps_no_other_away(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, good = make_job(), make_job()
    (settings.jobs_dir / "job_half_made").mkdir()
    JobDir(settings.jobs_dir, broken.job_id).spec.write_text("{")
    run_shards(good, [0, 1])
    part: Path = ResultsDir.of(good).part(1)
    part.write_bytes(part.read_bytes()[:50])
    table.redis.flushall()
    assert rebuild_all(settings, table) == [good.job_id]
    assert "job.json" in caplog.text
    assert "part-000001.parquet" in caplog.text
    snapshot = table.snapshot(good.job_id)
    assert snapshot is not None
    assert snapshot.counts.succeeded == 4  # what cannot be read has not landed
    with pytest.raises(UnknownJob):
        reconcile(settings, table, "job_ghost")


def test_a_job_that_ended_is_never_open_on_its_way_back(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    completed, cancelled = make_job(), make_job()
    run_shards(completed)
    finalize(settings, table, completed.job_id)
    run_shards(cancelled, [1])
    cancel(settings, table, cancelled.job_id)
    before = {job.job_id: job for job in table.list()}
    finish, seen = table.finish, []

    def watch(job_id: str, *arguments: Any, **options: Any) -> bool:
        seen.append((table.open_jobs(), table.issue(job_id, 10)))
        return finish(job_id, *arguments, **options)

    table.redis.flushall()
    monkeypatch.setattr(table, "finish", watch)
    rebuild_all(settings, table)
    assert seen == [([], [])] * 2
    assert {job.job_id: job for job in table.list()} == before


def test_the_manifest_spares_reading_every_part(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec, failing=[2])
    finalize(settings, table, spec.job_id)
    before = table.snapshot(spec.job_id)
    for part in ResultsDir.of(spec).parts().values():
        part.unlink()
    table.redis.flushall()
    rebuild_all(settings, table)
    assert table.snapshot(spec.job_id) == before


def test_parts_are_durable_before_they_are_counted(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever linked them may have died between the name and the fsync of the name."""
    spec = make_job(num_rows=8, shard_rows=4)
    run_shards(spec)
    rows = ResultsDir.of(spec).rows
    synced: list[Path] = []
    monkeypatch.setattr("penstock.jobs.results_dir.fsync_directory", synced.append)
    table.redis.flushall()
    reconcile(settings, table, spec.job_id)
    assert synced == [rows]
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED
    assert synced == [rows, rows]


def test_an_ended_job_that_was_entered_without_its_end_is_found_and_ended(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever entered it died before it had counted the parts."""
    spec = make_job()
    run_shards(spec, [1])
    cancel(settings, table, spec.job_id)
    before = table.snapshot(spec.job_id)
    table.redis.flushall()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(table, "_absorb", die)
        with pytest.raises(KeyboardInterrupt):
            reconcile(settings, table, spec.job_id)
    assert table.agenda.landing(60_000, 10) == []  # whoever enters it gets some time
    assert table.agenda.landing(-1, 10) == [spec.job_id]
    assert finalize(settings, table, spec.job_id) is JobState.CANCELLED
    assert table.snapshot(spec.job_id) == before
    assert table.agenda.landing(-1, 10) == []
