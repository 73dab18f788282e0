from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs import manifest_file
from penstock.jobs.ending import cancel, end
from penstock.jobs.errors import JobBusy, UnknownJob
from penstock.jobs.job_dir import Final, JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import land
from penstock.jobs.manifest import finalize
from penstock.jobs.model import Counts, JobSnapshot, JobSpec, JobState, ShardRef
from penstock.jobs.object_store import StoreUnavailable
from penstock.jobs.reconciler import reconcile
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.retrying import retry
from penstock.jobs.settings import Settings

from .conftest import JobMaker, ShardRunner
from .small_jobs import answered


def test_cancel_is_durable_and_keeps_what_has_landed(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec, [1])
    snapshot = cancel(settings, table, spec.job_id)
    assert snapshot.state is JobState.CANCELLED
    assert (snapshot.counts.succeeded, snapshot.counts.not_run) == (4, 6)
    final = JobDir(settings.jobs_dir, spec.job_id).read_final()
    assert final is not None
    assert (final.state, final.at_ms) == (JobState.CANCELLED, snapshot.finished_at_ms)
    assert final.started_at_ms == snapshot.started_at_ms
    assert cancel(settings, table, spec.job_id) == snapshot


def test_a_job_that_has_ended_is_left_as_it_is(
    settings: Settings, table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job()
    run_shards(spec)
    assert cancel(settings, table, spec.job_id).state is JobState.LANDING  # nothing left to stop
    finalize(settings, table, spec.job_id)
    assert cancel(settings, table, spec.job_id).state is JobState.COMPLETED
    assert end(settings, table, spec.job_id, JobState.FAILED, "no").state is JobState.COMPLETED


def test_a_job_that_completes_meanwhile_is_not_cancelled_too(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last rows land, and somebody begins to copy it, while the table is asked how it is."""

    def copying(*_: object) -> bool:
        raise StoreUnavailable("slow")

    spec = make_job()
    look, looks = table.snapshot, 0

    def snapshot(job_id: str) -> JobSnapshot | None:
        nonlocal looks
        found, looks = look(job_id), looks + 1
        if looks == 1:
            run_shards(spec)
            with suppress(JobBusy, StoreUnavailable):
                finalize(settings, table, job_id)
        return found

    monkeypatch.setattr("penstock.jobs.manifest.publish", copying)
    monkeypatch.setattr(table, "snapshot", snapshot)
    ended = cancel(settings, table, spec.job_id).state
    assert (ended, ResultsDir.of(spec).success.exists()) == (JobState.CANCELLED, False)


def test_a_job_that_was_cancelled_meanwhile_is_not_completed_too(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is cancelled while whoever completes it reads its parts."""
    spec = make_job()
    run_shards(spec)

    def read_parts(spec: JobSpec) -> Any:
        read = manifest_file.read_parts(spec)
        table.redis.flushall()
        cancel(settings, table, spec.job_id)
        return read

    monkeypatch.setattr("penstock.jobs.manifest.read_parts", read_parts)
    assert finalize(settings, table, spec.job_id) is JobState.CANCELLED
    assert not ResultsDir.of(spec).success.exists()


def test_a_job_with_its_manifest_is_completed_whatever_the_table_says(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = make_job()
    run_shards(spec)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("penstock.jobs.manifest.publish", lambda *_: 1 / 0)
        finalize(settings, table, spec.job_id)
    table.redis.flushall()
    assert cancel(settings, table, spec.job_id).state is JobState.LANDING
    assert finalize(settings, table, spec.job_id) is JobState.COMPLETED


def test_a_job_that_cannot_go_on_fails_with_its_reason(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    end(settings, table, spec.job_id, JobState.FAILED, "the input is damaged")
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None
    assert (snapshot.state, snapshot.error) == (JobState.FAILED, "the input is damaged")


def test_an_end_cut_short_after_the_disk_is_carried_through(
    settings: Settings, table: JobTable, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_job()
    with monkeypatch.context() as patch:
        patch.setattr(table, "finish", lambda *_, **__: None)  # killed before the table heard of it
        end(settings, table, spec.job_id, JobState.CANCELLED)
    assert table.open_jobs() == [spec.job_id]
    assert cancel(settings, table, spec.job_id).state is JobState.CANCELLED
    assert table.open_jobs() == []


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_what_was_linked_and_never_committed_counts_in_a_job_that_was_stopped(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    run_shards: ShardRunner,
    is_late: bool,
) -> None:
    spec = make_job()
    run_shards(spec, [0])
    claim = table.claim(ShardRef(spec.job_id, 1), "w1", 60_000)
    assert claim.status == "granted"
    if is_late:
        cancel(settings, table, spec.job_id)
    with JobDir(settings.jobs_dir, spec.job_id).open_input() as sealed:
        land(spec, 1, claim.attempt, [answered(row) for row in sealed.shard(1)])
    if is_late:
        assert reconcile(settings, table, spec.job_id)
    cancel(settings, table, spec.job_id)
    snapshot = table.snapshot(spec.job_id)
    assert snapshot is not None and snapshot.state is JobState.CANCELLED
    assert snapshot.counts == Counts(total=10, succeeded=8, not_run=2)
    table.redis.flushall()
    reconcile(settings, table, spec.job_id)
    assert table.snapshot(spec.job_id) == snapshot
    assert not reconcile(settings, table, spec.job_id)


FINDERS: dict[str, Callable[[Settings, JobTable, str], object]] = {
    "end": lambda settings, table, job_id: end(settings, table, job_id, JobState.FAILED),
    "finalize": finalize,
    "reconcile": reconcile,
    "retry": retry,
}


@pytest.mark.parametrize("finder", FINDERS)
def test_an_end_that_is_found_is_durable_before_anybody_hears_of_it(
    settings: Settings,
    table: JobTable,
    make_job: JobMaker,
    monkeypatch: pytest.MonkeyPatch,
    finder: str,
) -> None:
    """Whoever wrote it may have died between its name and the fsync of the name."""
    spec = make_job()
    job_dir = JobDir(settings.jobs_dir, spec.job_id)
    job_dir.write_final(Final(JobState.CANCELLED, at_ms=1_700_000_000_000))
    known: list[bool] = []

    def sync(path: Path) -> None:
        snapshot = table.snapshot(spec.job_id)
        assert snapshot is not None
        if path == job_dir.path:
            known.append(snapshot.state.is_final)

    monkeypatch.setattr("penstock.jobs.job_dir.fsync_directory", sync)
    FINDERS[finder](settings, table, spec.job_id)
    assert known == [False]


def test_cancel_reaches_a_job_that_a_wiped_table_forgot(
    settings: Settings, table: JobTable, make_job: JobMaker
) -> None:
    spec = make_job()
    table.redis.flushall()
    assert cancel(settings, table, spec.job_id).state is JobState.CANCELLED


def test_unknown_jobs_are_told(settings: Settings, table: JobTable) -> None:
    for job_id in ("job_ghost", "../job"):
        with pytest.raises(UnknownJob):
            cancel(settings, table, job_id)
