"""The reader of shards on its own: sealed jobs are real, and so is its thread."""

import json
import queue
from typing import Any

import pytest

from penstock.engine.outputs import RequestError
from penstock.jobs.fake_engine import FakeModel, FakeTokenizer
from penstock.jobs.frames import RunShard, ShardFailed, ShardLanded, Trouble
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.model import JobSpec, RowStatus, TaskSpec
from penstock.jobs.prompt_encoder import PromptEncoder
from penstock.jobs.settings import Settings
from penstock.jobs.shard_reader import ShardReader
from penstock.jobs.shard_run import ShardRun
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from tests.waiting import PATIENCE_S

GOOD = {"messages": [{"role": "user", "content": "hi"}]}
ODD_ROLE = {"messages": [{"role": ["user"], "content": "hi"}]}
LONG_ENUM = {"type": "string", "enum": [f"{number:020}" for number in range(15_000)]}
LONG_TOOL = {
    "type": "function",
    "function": {
        "name": "pick",
        "parameters": {"type": "object", "properties": {"which": LONG_ENUM}},
    },
}


class Reading:
    """A reader at work, and what it told of each shard."""

    def __init__(self, settings: Settings) -> None:
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        tokenizer = FakeTokenizer(FakeModel())
        self.reader = ShardReader(
            settings.jobs_dir, "w1", PromptEncoder(tokenizer), self.told.put, self.told.put
        )
        self.reader.start()

    def read(self, spec: JobSpec) -> ShardRun | ShardFailed | ShardLanded:
        self.reader.submit(RunShard(spec.job_id, 0, attempt=1))
        return self.told.get(timeout=PATIENCE_S)


@pytest.fixture
def reading(settings: Settings) -> Reading:
    return Reading(settings)


def seal(settings: Settings, table: JobTable, bodies: list[dict[str, Any]]) -> JobSpec:
    source = RowsSource([{"body": body} for body in bodies])
    return submit(settings, table, source, SubmitRequest(TaskSpec(model="fake:"))).spec


@pytest.mark.parametrize(
    ("bad", "param", "words"),
    [
        (ODD_ROLE, "messages", "role must be one of"),
        ({**GOOD, "tools": [LONG_TOOL], "tool_choice": "required"}, "tools", "characters"),
    ],
)
def test_one_bad_row_leaves_its_neighbours_alone(
    settings: Settings, table: JobTable, reading: Reading, bad: dict, param: str, words: str
) -> None:
    run = reading.read(seal(settings, table, [GOOD, bad, GOOD]))
    (error,) = errors_of(run, num_good=2)
    assert (error.code, error.param) == ("invalid_request", param)
    assert words in error.message


def test_what_nobody_foresaw_of_a_row_is_that_rows_error(
    settings: Settings,
    table: JobTable,
    reading: Reading,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def trip(*_: object) -> None:
        raise TypeError("nobody thought of this")

    spec = seal(settings, table, [GOOD, GOOD])
    monkeypatch.setattr("penstock.jobs.shard_reader.row_params", trip)
    for error in errors_of(reading.read(spec), num_good=0):
        assert error.code == "internal_error"
        assert "nobody thought of this" in error.message
    assert "cannot prepare row 1" in caplog.text


def test_a_job_of_a_newer_penstock_is_left_to_newer_workers(
    settings: Settings, table: JobTable, reading: Reading
) -> None:
    spec = seal(settings, table, [GOOD])
    assert spec.version == 2
    path = JobDir(settings.jobs_dir, spec.job_id).spec
    newer = {**json.loads(path.read_bytes()), "version": 99}
    del newer["seal"]
    path.write_text(json.dumps(newer))
    failed = reading.read(spec)
    assert isinstance(failed, ShardFailed) and failed.trouble is Trouble.NEWER


def test_rows_share_cached_prefixes_with_their_tenants_alone(
    settings: Settings, table: JobTable, reading: Reading
) -> None:
    request = SubmitRequest(TaskSpec(model="fake:"), tenant="acme")
    spec = submit(settings, table, RowsSource([{"body": GOOD}]), request).spec
    run = reading.read(spec)
    assert isinstance(run, ShardRun)
    assert [asked.cache_salt for asked in run.next_requests()] == ["acme"]


def test_a_shard_that_has_landed_is_not_run_again(
    settings: Settings, table: JobTable, reading: Reading
) -> None:
    spec = seal(settings, table, [GOOD])
    counts = land(spec, 0, 1, [LandedRow(0, None, RowStatus.SUCCEEDED, output="x")])
    assert reading.read(spec) == ShardLanded(spec.job_id, 0, 1, counts)


def errors_of(run: ShardRun | ShardFailed | ShardLanded, *, num_good: int) -> list[RequestError]:
    assert isinstance(run, ShardRun), run
    assert len(run.unfinished()) == num_good
    errors = [row.error for row in run.landed_rows()]
    assert errors
    return [error for error in errors if error is not None]
