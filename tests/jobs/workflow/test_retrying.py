"""Running again what failed of a run: what succeeded is not asked again, whatever became of it."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from penstock.jobs.errors import InvalidJob, JobBusy, UnknownJob
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.settings import Settings
from penstock.jobs.tenants import Tenants
from penstock.jobs.workflow import retried_answers
from penstock.jobs.workflow.retried_answers import path_of
from penstock.jobs.workflow.runs import run_lock
from penstock.jobs.workflow.runs.retrying import retry_run
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_removal import remove_run
from penstock.jobs.workflow.runs.runs import RunSnapshot, cancel_run
from penstock.jobs.workflow.runs.tracing import trace_row

from .small_runs import Refused, SmallRuns, in_small_shards

ROWS = {"rows": [{"n": number} for number in range(5)]}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
STEPS: list[dict[str, Any]] = [
    {"id": "draft", "type": "generate", "n": 2, "prompt": "draft {{ row.n }}", "cache": False},
    {"id": "read", "type": "generate", "prompt": "read {{ row.draft }}", "schema": SCHEMA,
     "retries": {"invalid_output": 1}},
    {"id": "all", "type": "reduce", "agg": {"sum": "sum(row.read.n)"}},
]  # fmt: skip
KILLED_WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that the file itself is changed before the end
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM answer")
connection.executemany(
    "INSERT INTO answer VALUES (?, ?)", [(b"%d" % number, bytes(4000)) for number in range(50)]
)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Model:
    """Answers what it is asked, except what it cannot yet."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)
        self.seeds: dict[str, list[int]] = {}

    def __call__(self, body: dict[str, Any]) -> str:
        prompt = body["prompt"]
        self.seeds.setdefault(prompt, []).append(body["seed"])
        if prompt in self.bad:
            if prompt.startswith("draft"):
                raise Refused("not now")
            return "no document"
        number = prompt.split()[-1]
        return number if prompt.startswith("draft") else json.dumps({"n": int(number)})


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards(run_rows=3, order_rows=6):
        yield SmallRuns(settings, table, Model())


def begun(runs: SmallRuns, *steps: dict[str, Any]) -> str:
    defaults = {"model": "fake", "sampling": {"max_tokens": 8, "temperature": 1}}
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": defaults}
    return runs.submit({**document, "steps": list(steps or STEPS)}, ROWS, name="mine").run_id


def retried(runs: SmallRuns, run_id: str) -> RunSnapshot:
    made = retry_run(runs.settings, runs.table, run_id)
    return runs.finish(made.run_id)


def sums(runs: SmallRuns, run_id: str) -> dict[str, Any]:
    return {row["row_id"]: json.loads(row["all"])["sum"] for row in runs.output(run_id)}


ALL = {str(number): 2 * number for number in range(5)}


def test_only_what_failed_is_asked_again(runs: SmallRuns) -> None:
    model = Model("draft 3", "read 2")
    runs = replace(runs, model=model)
    first = runs.finish(begun(runs))
    assert first.state is JobState.COMPLETED_WITH_ERRORS
    assert sums(runs, first.run_id) == {**ALL, "3": 0, "2": 0}
    model.bad.clear()
    again = retried(runs, first.run_id)
    assert again.state is JobState.COMPLETED
    assert sums(runs, again.run_id) == ALL
    assert runs.asked(again.run_id) == sorted(
        f"{step} {number}/draft#{sample}"
        for step, number in (("draft", 3), ("read", 3), ("read", 2))
        for sample in range(2)
    )
    assert (again.name, again.retry_of) == ("mine", first.run_id)
    assert again.metadata == {"retry_of": first.run_id}
    taken, new = (
        trace_row(runs.settings, again.run_id, f"{number}/draft#0")[0] for number in (2, 3)
    )
    assert [(each.text, each.is_cached) for each in taken.answers] == [("2", True)]
    assert [(each.text, each.is_cached) for each in new.answers] == [("3", False)]
    for seeds in (model.seeds["draft 3"], model.seeds["read 2"]):
        assert len(set(seeds)) == len(seeds), "with the seed it had the answer might be the same"


def test_a_retry_is_retried(runs: SmallRuns) -> None:
    model = Model("draft 3", "draft 4", "read 2")
    runs = replace(runs, model=model)
    first = runs.finish(begun(runs))
    model.bad -= {"draft 3"}
    second = retried(runs, first.run_id)
    assert sums(runs, second.run_id) == {**ALL, "4": 0, "2": 0}
    model.bad.clear()
    third = retried(runs, second.run_id)
    assert sums(runs, third.run_id) == ALL
    assert {each.split("/")[0] for each in runs.asked(third.run_id)} == {
        "draft 4",
        "read 4",
        "read 2",
    }


def outlived(runs: SmallRuns, model: Model) -> tuple[str, Path]:
    """Retry a run that is removed then; name the retry, and the file of what it took over."""
    model.bad |= {"draft 3", "draft 4"}
    first = runs.finish(begun(runs))
    model.bad -= {"draft 3"}
    second = retried(runs, first.run_id).run_id
    remove_run(runs.settings, runs.table, first.run_id)
    model.bad.clear()
    return second, path_of(RunDir(runs.settings.runs_dir, second), "draft")


def test_what_the_first_run_was_answered_outlives_it(runs: SmallRuns) -> None:
    model = Model()
    runs = replace(runs, model=model)
    second, path = outlived(runs, model)
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.with_name("draft.sqlite-journal").stat().st_size
    third = retried(runs, second)
    assert sums(runs, third.run_id) == ALL
    assert {each.split("/")[0] for each in runs.asked(third.run_id)} == {"draft 4", "read 4"}


def test_what_the_first_run_was_answered_is_waited_for(runs: SmallRuns) -> None:
    model = Model()
    runs = replace(runs, model=model)
    second, path = outlived(runs, model)
    third = retry_run(runs.settings, runs.table, second).run_id
    with (
        mock.patch.object(retried_answers, "_BUSY_S", 0.0),
        closing(sqlite3.connect(path, isolation_level=None)) as writer,
    ):
        writer.execute("BEGIN EXCLUSIVE")
        assert not runs.lead(third, 20)
        assert "database is locked" in (runs.read(third).status_reason or "")
    assert sums(runs, runs.finish(third).run_id) == ALL
    assert {each.split("/")[0] for each in runs.asked(third)} == {"draft 4", "read 4"}


@pytest.mark.parametrize("content", [b"", b"no database" * 600], ids=["empty", "damaged"])
def test_what_is_lost_of_the_first_run_is_asked_again(runs: SmallRuns, content: bytes) -> None:
    model = Model()
    runs = replace(runs, model=model)
    second, path = outlived(runs, model)
    path.write_bytes(content)
    third = retried(runs, second)
    assert sums(runs, third.run_id) == ALL
    assert "draft 1/draft#0" in runs.asked(third.run_id)


def test_a_run_that_failed_as_a_whole_goes_on(runs: SmallRuns) -> None:
    model = Model("draft 3")
    runs = replace(runs, model=model)
    first = runs.finish(begun(runs, {**STEPS[0], "on_error": "fail"}, *STEPS[1:]))
    assert first.state is JobState.FAILED
    before = set(runs.asked(first.run_id))
    model.bad.clear()
    again = retried(runs, first.run_id)
    assert again.state is JobState.COMPLETED
    assert sums(runs, again.run_id) == ALL
    assert before & set(runs.asked(again.run_id)) == {"draft 3/draft#0", "draft 3/draft#1"}


def test_a_run_that_was_cancelled_goes_on(runs: SmallRuns) -> None:
    run_id = begun(runs)
    assert not runs.lead(run_id, 4)
    runs.serve(run_id)
    cancel_run(runs.settings, runs.table, run_id)
    runs.finish(run_id)
    before = runs.asked(run_id)
    assert before
    again = retried(runs, run_id)
    assert sums(runs, again.run_id) == ALL
    assert not set(before) & set(runs.asked(again.run_id))


def test_it_takes_over_little_by_little_and_again_if_its_file_is_lost(runs: SmallRuns) -> None:
    model = Model("draft 3")
    runs = replace(runs, model=model)
    first = runs.finish(begun(runs))
    model.bad.clear()
    made = retry_run(runs.settings, runs.table, first.run_id).run_id
    with mock.patch.object(retried_answers, "FILLING_S", -1.0):
        assert not runs.lead(made, 20)
        assert runs.asked(made) == []
        assert "takes over" in (runs.read(made).status_reason or "")
    path = path_of(RunDir(runs.settings.runs_dir, made), "draft")
    path.write_bytes(b"no database, but bytes" * 300)
    assert sums(runs, runs.finish(made).run_id) == ALL
    assert len(runs.asked(made)) == 4
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM answer").fetchone() == (10,)
    connection.close()


def test_a_retry_keeps_no_priority_that_its_tenant_lost(runs: SmallRuns) -> None:
    first = replace(runs, model=Model("draft 3")).finish(begun(runs))
    assert first.priority == 0
    Tenants(runs.settings.tenants_dir).change(first.tenant, {"priority_ceiling": -4})
    assert retry_run(runs.settings, runs.table, first.run_id).priority == -4


def test_what_is_not_retried(runs: SmallRuns) -> None:
    model = Model("draft 3")
    failing = replace(runs, model=model)
    settings, table = runs.settings, runs.table
    open_run = begun(runs)
    with pytest.raises(InvalidJob, match="has not ended"):
        retry_run(settings, table, open_run)
    runs.finish(open_run)
    with pytest.raises(InvalidJob, match="there is nothing to retry"):
        retry_run(settings, table, open_run)
    first = failing.finish(begun(runs))
    one, same = (retry_run(settings, table, first.run_id) for _ in range(2))
    assert one.run_id == same.run_id, "one retry at a time"
    with pytest.raises(InvalidJob, match="which retries it, has not ended"):
        remove_run(settings, table, first.run_id)
    failing.finish(one.run_id)
    remove_run(settings, table, first.run_id)
    another = retried(failing, one.run_id)  # with less to take over
    assert sums(failing, another.run_id) == {**ALL, "3": 0}


def test_a_run_is_not_removed_while_somebody_retries_it(runs: SmallRuns) -> None:
    first = replace(runs, model=Model("draft 3")).finish(begun(runs))
    directory = RunDir(runs.settings.runs_dir, first.run_id)
    with run_lock.run_lock(directory), mock.patch.object(run_lock, "LOCK_WAIT_S", 0.0):
        for change in (retry_run, remove_run):
            with pytest.raises(JobBusy):
                change(runs.settings, runs.table, first.run_id)
    assert runs.asked(first.run_id), "its jobs are all there"

    def removed(_: Any, **__: Any) -> None:
        directory.remove()
        raise FileNotFoundError

    with mock.patch.object(run_lock, "file_lock", removed), pytest.raises(UnknownJob):
        retry_run(runs.settings, runs.table, first.run_id)


def test_a_retry_whose_source_is_gone_says_so(runs: SmallRuns) -> None:
    first = replace(runs, model=Model("draft 3")).finish(begun(runs))
    made = retry_run(runs.settings, runs.table, first.run_id).run_id
    RunDir(runs.settings.runs_dir, first.run_id).spec.unlink()
    ended = runs.finish(made)
    assert ended.state is JobState.FAILED
    assert f"{first.run_id}, which this run retries, cannot be read" in (ended.error or "")
    assert runs.asked(made) == [], "and nothing is asked in silence"


def test_what_is_taken_over_is_read_from_any_machine(runs: SmallRuns) -> None:
    model = Model("draft 3")
    runs = replace(runs, model=model)
    first = runs.finish(begun(runs))
    model.bad.clear()
    made = retried(runs, first.run_id).run_id
    path = path_of(RunDir(runs.settings.runs_dir, made), "draft")
    with path.open("rb") as file:
        assert file.read(20)[18:] == b"\1\1", "2 would be WAL, which one machine alone may use"
    (told,) = [each for each in trace_row(runs.settings, made, "1/draft#0") if each.step == "draft"]
    assert [each.text for each in told.answers] == ["1"]
    before = path.read_bytes()
    assert sorted(each.name for each in path.parent.iterdir()) == ["draft.sqlite", "read.sqlite"]
    path.write_bytes(before[:100] + b"no database, but bytes" * 300)
    (told,) = [each for each in trace_row(runs.settings, made, "1/draft#0") if each.step == "draft"]
    assert told.value == "1", "without it, the value tells"
    for suffix in ("-journal", "-wal"):
        path.with_name(path.name + suffix).write_bytes(b"of a file that is no more")
    retried_answers.forget(path)
    assert [each.name for each in path.parent.iterdir()] == ["read.sqlite"]
