"""An ended job can be removed: nothing of it stays but what it has used."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest
import redis

from penstock.jobs.control import job_lock
from penstock.jobs.errors import InvalidJob, JobBusy, UnknownJob
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import land
from penstock.jobs.model import JobSpec
from penstock.jobs.removal import remove
from penstock.jobs.removed_usage import removed_jobs
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.sources import RowsSource
from penstock.jobs.stored_bytes import StoredBytes
from penstock.jobs.usage import Usage, used
from penstock.jobs.workflow.orders.orders import orders_of
from penstock.jobs.workflow.runs.run_removal import remove_run
from penstock.jobs.workflow.runs.run_submission import RunRequest, submit_run
from penstock.jobs.workflow.spec import Workflow

from .conftest import flipped
from .small_jobs import SmallJobs
from .workflow.small_runs import SmallRuns

EVER = 2**50


def _remove(jobs: SmallJobs, spec: JobSpec) -> None:
    remove(jobs.settings, jobs.table, jobs.snapshot(spec))


def _used(jobs: SmallJobs) -> dict[str, Usage]:
    removed = removed_jobs(jobs.settings, "default")
    return used(jobs.table, "default", 0, EVER, removed)


def test_nothing_stays_but_what_it_has_used(jobs: SmallJobs) -> None:
    spec, other = jobs.complete(), jobs.complete()
    stored, before = StoredBytes(jobs.settings, jobs.table), _used(jobs)
    size = stored.measure("default").jobs
    _remove(jobs, spec)
    assert not jobs.directory(spec).path.exists()
    assert not ResultsDir.of(spec).path.exists()
    assert jobs.table.snapshot(spec.job_id) is None
    assert [job.job_id for job in jobs.table.list(tenant="default")] == [other.job_id]
    assert 0 < stored.measure("default").jobs < size
    assert _used(jobs) == before
    jobs.wipe()
    jobs.rebuild_all()
    assert jobs.table.snapshot(spec.job_id) is None, "it does not come back"
    assert _used(jobs) == before


def test_what_a_crash_left_is_removed_by_the_next_try(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = jobs.complete()
    before = _used(jobs)

    def away(*_: object) -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(JobTable, "forget", away)
        with pytest.raises(redis.ConnectionError):
            _remove(jobs, spec)
    assert not jobs.directory(spec).path.exists()
    assert _used(jobs) == before, "it is noted, and in the table: that is one job"
    _remove(jobs, spec)
    assert jobs.table.snapshot(spec.job_id) is None
    assert _used(jobs) == before


def test_what_runs_is_not_removed(jobs: SmallJobs) -> None:
    spec = jobs.make()
    with pytest.raises(InvalidJob, match="cancel it first"):
        _remove(jobs, spec)
    failed = jobs.complete(failing=[1])
    made = jobs.retry(failed)
    with pytest.raises(InvalidJob, match=f"a retry of {failed.job_id} runs"):
        _remove(jobs, failed)
    assert jobs.directory(failed).spec.exists() and ResultsDir.of(failed).rows.is_dir()
    jobs.cancel(made)
    _remove(jobs, failed)
    assert not ResultsDir.of(failed).path.exists()


def test_what_lands_late_does_not_come_back(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may be the last to hear that its job was cancelled, and removed."""
    spec = jobs.make()
    jobs.table.issue(spec.job_id, 10)
    results, attempts = ResultsDir.of(spec), [jobs.claim(spec, index) for index in range(2)]
    rows = jobs.answers(spec, 0), jobs.answers(spec, 1)
    jobs.cancel(spec)
    real_link = os.link

    def link_after_the_removal(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", real_link)
        _remove(jobs, spec)
        source.parent.mkdir(parents=True)  # as if it had been written while `_remove` went on
        source.touch()
        target.parent.mkdir()
        real_link(source, target)

    monkeypatch.setattr(os, "link", link_after_the_removal)
    for index in range(2):  # one meanwhile, one afterwards
        with pytest.raises(UnknownJob, match=spec.job_id):
            land(spec, index, attempts[index], rows[index], job_dir=jobs.directory(spec))
        assert not jobs.directory(spec).path.exists()
        assert not results.path.exists()


def test_a_jobs_retries_go_with_it(jobs: SmallJobs) -> None:
    spec, other = jobs.complete(failing=[1, 5]), jobs.complete(failing=[1])
    mended = jobs.rerun(spec, failing=[5])
    cancelled = jobs.retry(spec)
    jobs.table.issue(cancelled.job_id, 1)
    attempt, rows = jobs.claim(cancelled, 0), jobs.answers(cancelled, 0)
    jobs.cancel(cancelled)
    gone, stays = jobs.rerun(other), jobs.rerun(jobs.complete(failing=[1]))
    _remove(jobs, gone)
    before = _used(jobs)
    _remove(jobs, spec)
    _remove(jobs, other)
    assert _used(jobs) == before
    for each in (spec, mended, cancelled, other, gone):
        assert not jobs.directory(each).path.exists()
        assert jobs.table.snapshot(each.job_id) is None
    assert stays.retry_of is not None
    known = {job.job_id for job in jobs.table.list(tenant="default")}
    assert known == {stays.retry_of, stays.job_id}
    with pytest.raises(UnknownJob):
        land(cancelled, 0, attempt, rows, job_dir=jobs.directory(cancelled))
    assert not ResultsDir.of(spec).path.exists(), "what lands late does not bring it back"


def test_a_retry_that_nobody_has_entered_yet_is_waited_for(jobs: SmallJobs) -> None:
    spec = jobs.complete(failing=[1])
    made = jobs.rerun(spec)
    snapshot = jobs.snapshot(made)
    jobs.table.forget(snapshot)
    with pytest.raises(JobBusy, match=made.job_id):
        _remove(jobs, spec)
    assert ResultsDir.of(spec).parts()
    content = jobs.directory(made).spec.read_bytes()
    jobs.directory(made).spec.write_bytes(flipped(content, 20))
    _remove(jobs, spec)
    assert not jobs.directory(made).path.exists(), "one that is damaged is nobody's"


def test_what_is_noted_is_what_the_table_says_last(jobs: SmallJobs) -> None:
    spec = jobs.complete(failing=[1])
    long_ago = jobs.snapshot(spec)
    jobs.rerun(spec)
    before = _used(jobs)
    assert before["fake"].rows_failed == 0
    remove(jobs.settings, jobs.table, long_ago)
    assert _used(jobs) == before


def test_of_two_who_remove_a_job_both_are_content(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = jobs.complete()
    before = _used(jobs)

    def lock_too_late(job_dir: JobDir) -> AbstractContextManager[None]:
        monkeypatch.undo()
        remove(jobs.settings, jobs.table, snapshot)
        return job_lock(job_dir)

    snapshot = jobs.snapshot(spec)
    monkeypatch.setattr("penstock.jobs.removal.job_lock", lock_too_late)
    remove(jobs.settings, jobs.table, snapshot)
    assert not jobs.directory(spec).path.exists()
    assert _used(jobs) == before


def test_bytes_are_counted_once(jobs: SmallJobs, tmp_path: Path) -> None:
    stored = StoredBytes(jobs.settings, jobs.table)
    assert stored.measure("default").total == 0
    spec = jobs.complete(failing=[1])
    directories = (jobs.directory(spec).path, ResultsDir.of(spec).path)
    files = [path for each in directories for path in each.rglob("*")]
    size = sum(path.lstat().st_size for path in files if path.is_file())
    measured = stored.measure("default")
    assert size <= measured.jobs <= size + 512, "a link's own bytes count, too"
    assert stored.known("default") == measured.total
    assert stored.known("other") == stored.measure("other").total == 0
    jobs.rerun(spec)  # which lands below the job that it retries
    grown = stored.measure("default").jobs
    assert measured.jobs < grown < 4 * measured.jobs


def test_what_runs_of_workflows_take_is_counted_beside_their_jobs(jobs: SmallJobs) -> None:
    step = {"id": "said", "type": "generate", "prompt": "{{ row.text }}"}
    document = {"name": "w", "inputs": {"texts": {}}, "steps": [step]}
    workflow = msgspec.convert({**document, "defaults": {"model": "fake"}}, Workflow)
    rows = RowsSource([{"text": f"text {number}"} for number in range(100)])
    request = RunRequest(workflow, {"texts": rows}, tenant="acme")
    run = submit_run(jobs.settings, jobs.table, request)
    stored = StoredBytes(jobs.settings, jobs.table)
    found = (jobs.settings.runs_dir / run.run_id).rglob("*")
    files = [path for path in found if path.is_file() or path.is_symlink()]
    measured = stored.measure("acme")
    assert measured.runs == sum(path.lstat().st_size for path in files) > 0
    assert (measured.total, stored.measure("other").total) == (measured.runs, 0)


def test_what_a_run_has_asked_stays_until_it_ends_and_its_usage_for_ever(
    settings: Settings, table: JobTable
) -> None:
    step = {"id": "said", "type": "generate", "prompt": "{{ row.text }}"}
    document = {"name": "w", "inputs": {"texts": {}}, "steps": [step], "defaults": {"model": "m"}}
    runs = SmallRuns(settings, table, lambda body: body["prompt"])
    run_id = runs.submit(document, {"texts": [{"text": "a"}, {"text": "b"}]}).run_id
    assert not runs.lead(run_id, 3)
    (order,) = orders_of(settings.jobs_dir, run_id)
    job = table.snapshot(order.job_id)
    assert job is not None and job.state.is_final
    with pytest.raises(InvalidJob, match=f"{job.job_id} serves {run_id}, which has not ended"):
        remove(settings, table, job)
    assert runs.finish(run_id).output_rows == 2
    before = used(table, "default", 0, EVER, removed_jobs(settings, "default"))
    assert before["m"].rows_succeeded == 2
    remove_run(settings, table, run_id)
    assert table.snapshot(job.job_id) is None
    assert used(table, "default", 0, EVER, removed_jobs(settings, "default")) == before
