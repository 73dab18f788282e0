"""What tenants store, asked for by several threads at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import msgspec
import pytest

from penstock.jobs import stored_bytes
from penstock.jobs.file_store import FileStore
from penstock.jobs.sources import RowsSource
from penstock.jobs.stored_bytes import StoredBytes
from penstock.jobs.workflow.runs.run_submission import RunRequest, submit_run
from penstock.jobs.workflow.spec import Workflow

from .live import wait_for
from .small_jobs import SmallJobs

ANY_AGE_S = 3_600.0


def keep(jobs: SmallJobs, num_bytes: int) -> str:
    """Store a file of the tenant `acme`."""
    files = FileStore(jobs.settings.files_dir)
    with files.writing() as file:
        file.write(b"x" * num_bytes)
        return files.keep(file, filename="a", purpose="batch", tenant="acme").id


def begin_run(jobs: SmallJobs) -> None:
    step = {"id": "said", "type": "generate", "prompt": "{{ row.text }}"}
    document = {"name": "w", "inputs": {"texts": {}}, "steps": [step], "defaults": {"model": "m"}}
    workflow = msgspec.convert(document, Workflow)
    request = RunRequest(workflow, {"texts": RowsSource([{"text": "a"}])}, tenant="acme")
    submit_run(jobs.settings, jobs.table, request)


def test_runs_that_begin_meanwhile_disturb_nobody(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tenants are measured at the same time, and a run is new to one of the two."""
    stored = StoredBytes(jobs.settings, jobs.table)
    begin_run(jobs)
    one = stored.measure("acme").runs
    measure_run = StoredBytes._of_run

    def while_another_begins(self: StoredBytes, *run: object) -> int:
        monkeypatch.undo()
        begin_run(jobs)
        stored.measure("other")
        return measure_run(self, *run)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(StoredBytes, "_of_run", while_another_begins)
    assert stored.measure("acme").runs == one
    assert stored.measure("acme").runs > one


def test_those_who_wait_share_one_measurement(
    jobs: SmallJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = StoredBytes(jobs.settings, jobs.table)
    goes_on, begun, asked = Event(), [], []
    monotonic, measure_jobs = time.monotonic, StoredBytes._of_jobs

    def counted() -> float:
        asked.append(1)
        return monotonic()

    def slowly(self: StoredBytes, tenant: str) -> int:
        begun.append(tenant)
        assert goes_on.wait(60)
        return measure_jobs(self, tenant)

    monkeypatch.setattr(StoredBytes, "_of_jobs", slowly)
    monkeypatch.setattr(stored_bytes, "time", type("Clock", (), {"monotonic": counted}))
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(stored.measure, "acme")
        wait_for(lambda: bool(begun), "the first measurement")
        keep(jobs, 100)
        num_asked = len(asked)
        others = [threads.submit(stored.measure, "acme") for _ in range(5)]
        try:
            wait_for(lambda: len(asked) == num_asked + 5, "the others to ask")
        finally:
            goes_on.set()
        assert first.result().files == 0
        assert [other.result().files for other in others] == [100] * 5
    assert len(begun) == 2


def test_what_was_measured_counts_until_something_is_deleted(jobs: SmallJobs) -> None:
    stored = StoredBytes(jobs.settings, jobs.table)
    file_id = keep(jobs, 100)
    assert stored.of("acme", ANY_AGE_S).files == 100
    FileStore(jobs.settings.files_dir).delete(file_id, "acme")
    assert stored.of("acme", ANY_AGE_S).files == 100
    stored.freed("other")
    assert stored.of("acme", ANY_AGE_S).files == 100
    stored.freed("acme")
    assert stored.of("acme", ANY_AGE_S).files == 0
    keep(jobs, 50)
    assert stored.of("acme", ANY_AGE_S).files == 0, "what is new is seen when it is looked for"
    assert stored.measure("acme").files == 50
