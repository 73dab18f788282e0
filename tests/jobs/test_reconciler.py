"""What the table has lost or never learnt it is told again, from the disk."""

from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.errors import UnknownJob
from penstock.jobs.job_dir import Final
from penstock.jobs.model import Counts, JobState, ShardRef
from penstock.jobs.reconciler import reconcile
from penstock.jobs.results_dir import ResultsDir

from .small_jobs import SmallJobs


def test_a_wiped_redis_comes_back_as_it_was(jobs: SmallJobs) -> None:
    fresh, cancelled, early = (jobs.make() for _ in range(3))
    jobs.complete()
    jobs.complete(failing=[1, 5])
    jobs.run(cancelled, [1])
    jobs.cancel(cancelled)
    jobs.cancel(early)
    before = jobs.table.list()
    assert {job.state for job in before} == {
        JobState.QUEUED,
        JobState.COMPLETED,
        JobState.COMPLETED_WITH_ERRORS,
        JobState.CANCELLED,
    }
    jobs.wipe()
    rebuilt = jobs.rebuild_all()
    assert rebuilt[0] == fresh.job_id  # it waits for work
    assert sorted(rebuilt) == sorted(job.job_id for job in before)
    assert sorted(jobs.table.list(), key=lambda job: job.job_id) == sorted(
        before, key=lambda job: job.job_id
    )
    assert jobs.table.open_jobs() == [fresh.job_id]
    assert jobs.rebuild_all() == []


def test_a_job_wiped_in_the_middle_is_finished_without_doing_twice_what_has_landed(
    jobs: SmallJobs,
) -> None:
    spec = jobs.make(num_rows=40, shard_rows=4)
    jobs.run(spec, [0, 3, 4, 9])
    jobs.claim(spec, 1)
    before = jobs.snapshot(spec)
    jobs.wipe()
    assert jobs.reconcile(spec)
    after = jobs.snapshot(spec)
    assert after.state is JobState.RUNNING
    assert after.counts == Counts(total=40, pending=24, succeeded=16)  # the lease is forgotten
    assert after.completion_tokens == before.completion_tokens
    assert after.started_at_ms == 1_700_000_001_000  # when its first row began
    assert jobs.table.issue(spec.job_id, 100) == [1, 2, 5, 6, 7, 8]
    jobs.run(spec, [1, 2, 5, 6, 7, 8])
    assert jobs.finalize(spec) is JobState.COMPLETED


def test_a_part_linked_by_a_worker_that_died_before_its_commit_is_counted(jobs: SmallJobs) -> None:
    spec = jobs.make()
    attempt = jobs.claim(spec, 0)
    counts = jobs.land(spec, 0, attempt)
    assert jobs.rebuild_all() == [spec.job_id]
    snapshot = jobs.snapshot(spec)
    assert (snapshot.counts.succeeded, snapshot.shards_landed) == (4, 1)
    # The worker was only slow: its commit finds that it is counted.
    ref = ShardRef(spec.job_id, 0)
    assert jobs.table.commit(ref, attempt, counts).status == "duplicate"
    assert jobs.rebuild_all() == []


def test_a_job_that_ended_on_disk_ends_in_the_table(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.directory(spec).write_final(Final(JobState.FAILED, at_ms=1_700_000_003_000, error="why"))
    assert jobs.reconcile(spec)
    snapshot = jobs.snapshot(spec)
    assert (snapshot.state, snapshot.error) == (JobState.FAILED, "why")
    assert snapshot.finished_at_ms == 1_700_000_003_000
    assert jobs.table.issue(spec.job_id, 10) == []


def test_what_is_no_job_and_what_cannot_be_read_keeps_no_other_away(
    jobs: SmallJobs, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = jobs.make(), jobs.make()
    (jobs.settings.jobs_dir / "job_half_made").mkdir()
    jobs.directory(broken).spec.write_text("{")
    jobs.run(good, [0, 1])
    part: Path = ResultsDir.of(good).part(1)
    part.write_bytes(part.read_bytes()[:50])
    jobs.wipe()
    assert jobs.rebuild_all() == [good.job_id]
    assert "job.json" in caplog.text
    assert "part-000001.parquet" in caplog.text
    snapshot = jobs.snapshot(good)
    assert snapshot.counts.succeeded == 4  # what cannot be read has not landed
    with pytest.raises(UnknownJob):
        reconcile(jobs.settings, jobs.table, "job_ghost")


def test_a_job_that_ended_is_never_open_on_its_way_back(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.complete()
    cancelled = jobs.make()
    jobs.run(cancelled, [1])
    jobs.cancel(cancelled)
    before = {job.job_id: job for job in jobs.table.list()}
    finish, seen = jobs.table.finish, []

    def watch(job_id: str, *arguments: Any, **options: Any) -> bool:
        seen.append((jobs.table.open_jobs(), jobs.table.issue(job_id, 10)))
        return finish(job_id, *arguments, **options)

    jobs.wipe()
    monkeypatch.setattr(jobs.table, "finish", watch)
    jobs.rebuild_all()
    assert seen == [([], [])] * 2
    assert {job.job_id: job for job in jobs.table.list()} == before


def test_the_manifest_spares_reading_every_part(jobs: SmallJobs) -> None:
    spec = jobs.complete(failing=[2])
    before = jobs.snapshot(spec)
    for part in ResultsDir.of(spec).parts().values():
        part.unlink()
    jobs.wipe()
    jobs.rebuild_all()
    assert jobs.snapshot(spec) == before


def test_parts_are_durable_before_they_are_counted(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever linked them may have died between the name and the fsync of the name."""
    spec = jobs.make(num_rows=8, shard_rows=4)
    jobs.run(spec)
    rows = ResultsDir.of(spec).rows
    synced: list[Path] = []
    monkeypatch.setattr("penstock.jobs.results_dir.fsync_directory", synced.append)
    jobs.wipe()
    jobs.reconcile(spec)
    assert synced == [rows]
    assert jobs.finalize(spec) is JobState.COMPLETED
    assert synced == [rows, rows]


def test_an_ended_job_that_was_entered_without_its_end_is_found_and_ended(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever entered it died before it had counted the parts."""
    spec = jobs.make()
    jobs.run(spec, [1])
    jobs.cancel(spec)
    before = jobs.snapshot(spec)
    jobs.wipe()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs.table, "_absorb", die)
        with pytest.raises(KeyboardInterrupt):
            jobs.reconcile(spec)
    assert jobs.table.agenda.landing(60_000, 10) == []  # whoever enters it gets some time
    assert jobs.table.agenda.landing(-1, 10) == [spec.job_id]
    assert jobs.finalize(spec) is JobState.CANCELLED
    assert jobs.snapshot(spec) == before
    assert jobs.table.agenda.landing(-1, 10) == []
