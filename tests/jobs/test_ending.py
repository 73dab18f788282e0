"""A job has one end, on disk before in the table, whoever else would end it meanwhile."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs import manifest_file
from penstock.jobs.ending import cancel
from penstock.jobs.errors import JobBusy, UnknownJob
from penstock.jobs.job_dir import Final
from penstock.jobs.manifest import finalize
from penstock.jobs.model import Counts, JobSnapshot, JobSpec, JobState
from penstock.jobs.object_store import StoreUnavailable
from penstock.jobs.results_dir import ResultsDir

from .small_jobs import SmallJobs


def test_cancel_is_durable_and_keeps_what_has_landed(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec, [1])
    snapshot = jobs.cancel(spec)
    assert snapshot.state is JobState.CANCELLED
    assert (snapshot.counts.succeeded, snapshot.counts.not_run) == (4, 6)
    final = jobs.directory(spec).read_final()
    assert final is not None
    assert (final.state, final.at_ms) == (JobState.CANCELLED, snapshot.finished_at_ms)
    assert final.started_at_ms == snapshot.started_at_ms
    assert jobs.cancel(spec) == snapshot


def test_a_job_that_has_ended_is_left_as_it_is(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.run(spec)
    assert jobs.cancel(spec).state is JobState.LANDING  # nothing left to stop
    jobs.finalize(spec)
    assert jobs.cancel(spec).state is JobState.COMPLETED
    assert jobs.end(spec, JobState.FAILED, "no").state is JobState.COMPLETED


def test_a_job_that_completes_meanwhile_is_not_cancelled_too(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last rows land, and somebody begins to copy it, while the table is asked how it is."""

    def copying(*_: object) -> bool:
        raise StoreUnavailable("slow")

    spec = jobs.make()
    look, looks = jobs.table.snapshot, 0

    def snapshot(job_id: str) -> JobSnapshot | None:
        nonlocal looks
        found, looks = look(job_id), looks + 1
        if looks == 1:
            jobs.run(spec)
            with suppress(JobBusy, StoreUnavailable):
                finalize(jobs.settings, jobs.table, job_id)
        return found

    monkeypatch.setattr("penstock.jobs.manifest.publish", copying)
    monkeypatch.setattr(jobs.table, "snapshot", snapshot)
    ended = jobs.cancel(spec).state
    assert (ended, ResultsDir.of(spec).success.exists()) == (JobState.CANCELLED, False)


def test_a_job_that_was_cancelled_meanwhile_is_not_completed_too(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cancelled while whoever completes it reads its parts."""
    spec = jobs.make()
    jobs.run(spec)

    def read_parts(spec: JobSpec) -> Any:
        read = manifest_file.read_parts(spec)
        jobs.wipe()
        jobs.cancel(spec)
        return read

    monkeypatch.setattr("penstock.jobs.manifest.read_parts", read_parts)
    assert jobs.finalize(spec) is JobState.CANCELLED
    assert not ResultsDir.of(spec).success.exists()


def test_a_job_with_its_manifest_is_completed_whatever_the_table_says(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = jobs.make()
    jobs.run(spec)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("penstock.jobs.manifest.publish", lambda *_: 1 / 0)
        jobs.finalize(spec)
    jobs.wipe()
    assert jobs.cancel(spec).state is JobState.LANDING
    assert jobs.finalize(spec) is JobState.COMPLETED


def test_a_job_that_cannot_go_on_fails_with_its_reason(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.end(spec, JobState.FAILED, "the input is damaged")
    snapshot = jobs.snapshot(spec)
    assert (snapshot.state, snapshot.error) == (JobState.FAILED, "the input is damaged")


def test_an_end_cut_short_after_the_disk_is_carried_through(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = jobs.make()
    with monkeypatch.context() as patch:
        patch.setattr(
            jobs.table, "finish", lambda *_, **__: None
        )  # killed before the table heard of it
        jobs.end(spec, JobState.CANCELLED)
    assert jobs.table.open_jobs() == [spec.job_id]
    assert jobs.cancel(spec).state is JobState.CANCELLED
    assert jobs.table.open_jobs() == []


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_what_was_linked_and_never_committed_counts_in_a_job_that_was_stopped(
    jobs: SmallJobs, is_late: bool
) -> None:
    spec = jobs.make()
    jobs.run(spec, [0])
    attempt = jobs.claim(spec, 1)
    if is_late:
        jobs.cancel(spec)
    jobs.land(spec, 1, attempt)
    if is_late:
        assert jobs.reconcile(spec)
    jobs.cancel(spec)
    snapshot = jobs.snapshot(spec)
    assert snapshot.state is JobState.CANCELLED
    assert snapshot.counts == Counts(total=10, succeeded=8, not_run=2)
    jobs.wipe()
    jobs.reconcile(spec)
    assert jobs.snapshot(spec) == snapshot
    assert not jobs.reconcile(spec)


FINDERS: dict[str, Callable[[SmallJobs, JobSpec], object]] = {
    "end": lambda jobs, spec: jobs.end(spec, JobState.FAILED),
    "finalize": SmallJobs.finalize,
    "reconcile": SmallJobs.reconcile,
    "retry": SmallJobs.retry,
}


@pytest.mark.parametrize("finder", FINDERS)
def test_an_end_that_is_found_is_durable_before_anybody_hears_of_it(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch, finder: str
) -> None:
    """Whoever wrote it may have died between its name and the fsync of the name."""
    spec = jobs.make()
    job_dir = jobs.directory(spec)
    job_dir.write_final(Final(JobState.CANCELLED, at_ms=1_700_000_000_000))
    known: list[bool] = []

    def sync(path: Path) -> None:
        if path == job_dir.path:
            known.append(jobs.snapshot(spec).state.is_final)

    monkeypatch.setattr("penstock.jobs.job_dir.fsync_directory", sync)
    FINDERS[finder](jobs, spec)
    assert known == [False]


def test_cancel_reaches_a_job_that_a_wiped_table_forgot(jobs: SmallJobs) -> None:
    spec = jobs.make()
    jobs.wipe()
    assert jobs.cancel(spec).state is JobState.CANCELLED


def test_unknown_jobs_are_told(jobs: SmallJobs) -> None:
    for job_id in ("job_ghost", "../job"):
        with pytest.raises(UnknownJob):
            cancel(jobs.settings, jobs.table, job_id)
