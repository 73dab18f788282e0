"""The clerk of batches, step by step: killed between two steps, and with files that rotted."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.batch_clerk import BatchClerk
from penstock.jobs.batch_record import Batch, BatchRecords, BatchSpec, BatchStatus, new_batch_id
from penstock.jobs.durable import make_directories
from penstock.jobs.errors import InvalidJob
from penstock.jobs.file_store import FileStore
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.manifest import finalize
from penstock.jobs.model import JobSpec, JobState
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.webhook_endpoints import WebhookEndpoints
from penstock.jobs.webhook_outbox import WebhookOutbox

from .conftest import ShardRunner

CHAT = "/v1/chat/completions"


def line(custom_id: str, model: str = "fake") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body})


class Office:
    """A clerk who does what he is told, and what he works with."""

    def __init__(self, settings: Settings, table: JobTable, run_shards: ShardRunner) -> None:
        self.settings = replace(settings, models=("fake", "fake:other"))
        self.table, self._run_shards = table, run_shards
        data = settings.data_dir
        self.files = FileStore(data / "files")
        self.records = BatchRecords(data / "batches")
        self.endpoints = WebhookEndpoints(data / "webhooks" / "endpoints")
        self.outbox = WebhookOutbox(data / "webhooks" / "outbox", self.endpoints)
        self.clerk = self.new_clerk()

    def new_clerk(self) -> BatchClerk:
        return BatchClerk(self.settings, self.records, self.files, self.outbox)

    def make(self, lines: list[str], **options: Any) -> Batch:
        with self.files.writing() as file:
            file.write("\n".join(lines).encode())
            stored = self.files.keep(file, filename="in.jsonl", purpose="batch")
        now = int(time.time())
        spec = BatchSpec(
            id=new_batch_id(),
            endpoint=CHAT,
            input_file_id=stored.id,
            completion_window="24h",
            deadline_ms=(now + 86_400) * 1000,
            created_at=now,
            **options,
        )
        return self.records.create(spec)

    def jobs(self, batch: Batch) -> list[JobSpec]:
        checked = batch.checked()
        assert checked is not None
        return [JobDir(self.settings.jobs_dir, each).read_spec() for each in checked.jobs]

    def run(self, spec: JobSpec) -> None:
        self._run_shards(spec)
        finalize(self.settings, self.table, spec.job_id)

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        with self.files.open(file_id, "default") as file:
            return [json.loads(each) for each in file]


@pytest.fixture
def office(settings: Settings, table: JobTable, run_shards: ShardRunner) -> Iterator[Office]:
    office = Office(settings, table, run_shards)
    yield office
    office.clerk.stop()


def test_a_batch_is_rendered_once_its_jobs_have_ended(office: Office) -> None:
    batch = office.make([line(f"r{n}") for n in range(10)])
    office.clerk.advance(batch)
    [job] = office.jobs(batch)
    office.clerk.advance(batch)
    assert batch.ended() is None
    office.run(job)
    office.clerk.advance(batch)
    ended = batch.ended()
    assert ended is not None
    assert (ended.status, ended.completed, ended.failed) == (BatchStatus.COMPLETED, 10, 0)
    told = {each["custom_id"] for each in office.lines(ended.output_file_id)}
    assert told == {f"r{n}" for n in range(10)}
    assert office.records.open() == []


def test_a_clerk_who_died_before_the_note_is_followed_by_one_who_finds_his_job(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = office.make([line("a")])

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(Batch, "write_checked", die)
        office.clerk.advance(batch)
    batch.cancel()
    office.clerk.advance(batch)
    [job] = office.jobs(batch)
    office.clerk.advance(batch)
    assert [each.job_id for each in office.table.list()] == [job.job_id]
    snapshot = office.table.snapshot(job.job_id)
    assert snapshot is not None
    assert snapshot.state is JobState.CANCELLED
    ended = batch.ended()
    assert ended is not None
    assert ended.status is BatchStatus.CANCELLED
    assert office.lines(ended.error_file_id)[0]["error"]["code"] == "batch_cancelled"


def test_files_of_a_rendering_that_was_broken_off_do_not_stay(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = office.make([line(f"r{n}") for n in range(3)])
    office.clerk.advance(batch)
    [job] = office.jobs(batch)
    office.run(job)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(Batch, "write_ended", die)
        office.clerk.advance(batch)
    ResultsDir.of(job).part(0).unlink()  # so that the second rendering comes to something else
    office.clerk.advance(batch)
    ended = batch.ended()
    assert ended is not None
    assert (ended.completed, ended.failed, ended.output_file_id) == (0, 3, None)
    assert len(office.lines(ended.error_file_id)) == 3
    made = [each.id for each in office.files.list("default") if each.purpose == "batch_output"]
    assert made == [ended.error_file_id]


def test_rows_of_a_part_that_has_rotted_are_told_as_such(office: Office) -> None:
    batch = office.make([line(f"r{n}") for n in range(3)])
    office.clerk.advance(batch)
    [job] = office.jobs(batch)
    office.run(job)
    flip(ResultsDir.of(job).part(0), 60)
    office.clerk.advance(batch)
    ended = batch.ended()
    assert ended is not None
    assert (ended.completed, ended.failed) == (0, 3)
    told = office.lines(ended.error_file_id)
    assert [(each["custom_id"], each["error"]["code"]) for each in told] == [
        (f"r{n}", "checksum_mismatch") for n in range(3)
    ]


def test_a_batch_whose_job_cannot_be_read_fails_and_says_why(office: Office) -> None:
    batch = office.make([line("a")])
    office.clerk.advance(batch)
    [job] = office.jobs(batch)
    batch.cancel()
    path = JobDir(office.settings.jobs_dir, job.job_id).input
    path.write_bytes(path.read_bytes()[:-20])
    office.clerk.advance(batch)
    ended = batch.ended()
    assert ended is not None
    assert ended.status is BatchStatus.FAILED
    assert ended.errors[0].code == "server_error"


def test_jobs_that_were_made_before_a_batch_failed_are_cancelled(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = office.make([line("a"), line("b", "fake:other")])
    submit = office.clerk._submit

    def refuse(batch: Batch, model: str, path: Path) -> str:
        if model != "fake":
            raise InvalidJob("model", "the model is not to be had")
        return submit(batch, model, path)

    monkeypatch.setattr(office.clerk, "_submit", refuse)
    office.clerk.advance(batch)
    office.clerk.advance(batch)
    ended = batch.ended()
    assert ended is not None
    assert ended.status is BatchStatus.FAILED
    [job] = office.table.list()
    assert job.state is JobState.CANCELLED


def test_one_damaged_batch_holds_up_no_other(office: Office) -> None:
    damaged, sound = office.make([line("a")]), office.make([line("b")])
    flip(office.settings.data_dir / "batches" / damaged.spec.id / "batch.json", 0)
    assert [each.spec.id for each in office.records.open()] == [sound.spec.id]
    assert [each.spec.id for each in office.records.list("default")] == [sound.spec.id]


def test_a_key_whose_maker_died_still_makes_its_batch(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr("penstock.jobs.batch_record.make_directories", _until("batch_", die))
        office.make([line("a")], idempotency_key="k")
    first, second = (office.make([line("a")], idempotency_key="k") for _ in range(2))
    assert first.spec == second.spec
    assert len(office.records.list("default")) == 1


def test_a_key_is_a_tenants_own(office: Office) -> None:
    mine, others = (
        office.make([line("a")], idempotency_key="k", tenant=tenant) for tenant in ("a", "b")
    )
    assert (mine.spec.tenant, others.spec.tenant) == ("a", "b")
    assert mine.spec.id != others.spec.id


def _until(name: str, act: Any) -> Any:
    def make(path: Path) -> None:
        if path.name.startswith(name):
            act()
        make_directories(path)

    return make


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
