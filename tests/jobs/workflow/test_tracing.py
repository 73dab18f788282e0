"""The history of a row is found from its id: few files are read, however many there are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.errors import InvalidJob, UnknownJob
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.part_file import read_part
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.runs import row_places, tracing
from penstock.jobs.workflow.runs.tracing import RunHistory, UnknownRow, trace_row

from .small_runs import SmallRuns, in_small_shards

NUM_ROWS = 14
WORKFLOW: dict[str, Any] = {
    "name": "w",
    "inputs": {"rows": {}},
    "defaults": {"model": "fake"},
    "steps": [
        {"id": "idea", "type": "generate", "n": 2, "prompt": "idea {{ row.n }}"},
        {"id": "odd", "type": "filter", "where": "row.n % 2 == 1"},
        {"id": "once", "type": "dedupe", "key": "{{ row.n }} {{ row.idea }}"},
        {"id": "part", "type": "expand", "explode": "[row.n, row.idea]"},
        {"id": "praise", "type": "generate", "prompt": "praise {{ row.part.index }} {{ row.n }}"},
        {"id": "parts", "type": "reduce", "agg": {"count": "count()"}},
    ],
}


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, lambda body: f"<{body['prompt']} {body['seed']}>")


@pytest.fixture
def run_id(runs: SmallRuns) -> str:
    rows = [{"n": n} for n in range(NUM_ROWS)]
    run_id = runs.submit(WORKFLOW, {"rows": rows}, use_cache=False).run_id
    assert runs.finish(run_id).state is JobState.COMPLETED
    return run_id


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Name the parts of steps that are read whole."""
    found: list[str] = []
    plain = tracing.read_shard

    def noted(path: Path, columns: Any) -> Any:
        found.append(path.parent.parent.name)
        return plain(path, columns)

    monkeypatch.setattr(tracing, "read_shard", noted)
    return found


def test_one_part_of_each_step_is_read(runs: SmallRuns, run_id: str, read: list[str]) -> None:
    traces = trace_row(runs.settings, run_id, "11/idea#1/part#0")
    assert [(trace.step, trace.row_id) for trace in traces] == [
        ("idea", "11/idea#1"),
        ("odd", "11/idea#1"),
        ("once", "11/idea#1"),
        ("part", "11/idea#1/part#0"),
        ("praise", "11/idea#1/part#0"),
        ("parts", "11/idea#1"),
    ]
    assert sorted(read) == sorted(["idea", "odd", "once", "part", "praise", "parts"])
    praise = traces[4]
    assert [request["prompt"] for request in praise.requests] == ["praise 0 11"]
    assert [answer.text for answer in praise.answers] == [praise.value]


def test_every_row_of_every_step_is_found(runs: SmallRuns, run_id: str, read: list[str]) -> None:
    history = RunHistory(runs.settings, run_id)
    for step in ("idea", "odd", "once", "part", "praise", "parts"):
        for part in runs.results(run_id).step(step).parts().values():
            for row in read_part(part).to_pylist():
                trace = history.of_step(step, row["row_id"])
                assert trace is not None
                assert trace.row_id == row["row_id"]
                assert len(trace.requests) == (step in ("idea", "praise"))
    num_parts = sum(len(place.parts()) for place in runs.results(run_id).steps())
    assert len(read) == num_parts, "each is read once"


def test_no_row_is_told_of_that_there_is_not(runs: SmallRuns, run_id: str) -> None:
    history = RunHistory(runs.settings, run_id)
    for row_id in ("3/idea#2", "0/idea#0/part#0", "7/once#0", "3/", "/"):
        assert row_id not in [trace.row_id for trace in history.follow(row_id)]
    for row_id in ("14", "-1", "x", "99/idea#2", "²", "9" * 2_000, "3/idea#0/zz"):
        with pytest.raises(UnknownJob):
            trace_row(runs.settings, run_id, row_id)


def test_of_a_row_that_became_others_these_are_named(
    runs: SmallRuns, run_id: str, read: list[str]
) -> None:
    for row_id, first in (("11", "11/idea#0"), ("99", None)):
        with pytest.raises(UnknownRow) as caught:
            trace_row(runs.settings, run_id, row_id)
        assert next(iter(caught.value.children), None) == first
    assert max(map(read.count, read)) == 1, "each is read once"


def test_what_is_too_much_to_search_is_refused(
    runs: SmallRuns, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_places, "MAX_PARTS_SEARCHED", 3)
    history = RunHistory(runs.settings, run_id)
    assert history.of_step("idea", "11/idea#1") is not None
    with pytest.raises(InvalidJob, match=r"behind step once, whose rows lie in \d+ parts"):
        history.follow("11/idea#1")


def test_numbers_of_rejected_lines_lead_nobody_astray(runs: SmallRuns) -> None:
    steps = [{"id": "idea", "type": "map", "set": {"x": "row.n + 1"}}]
    rows: list[Any] = [{"n": n} if n % 5 else "no row" for n in range(30)]
    run_id = runs.submit({**WORKFLOW, "steps": steps}, {"rows": rows}).run_id
    assert runs.finish(run_id).num_rejected == 6
    history = RunHistory(runs.settings, run_id)
    for n in range(30):
        trace = history.of_step("idea", str(n))
        assert (trace is not None) == bool(n % 5)


@pytest.mark.parametrize("on_error", ["keep", "drop"])
def test_of_a_row_that_failed_it_is_told_why(runs: SmallRuns, on_error: str) -> None:
    steps = [{"id": "x", "type": "map", "set": {"x": "1 / row.n"}, "on_error": on_error}]
    rows = [{"n": n % 5} for n in range(8)]
    run_id = runs.submit({**WORKFLOW, "steps": steps}, {"rows": rows}).run_id
    runs.finish(run_id)
    history = RunHistory(runs.settings, run_id)
    for n in range(8):
        (told,) = history.follow(str(n))
        assert (told.step, told.row_id) == ("x", str(n))
        assert (told.error is not None) == (n % 5 == 0)
    error = history.follow("5")[0].error
    assert error is not None
    assert (error.code, bool(error.message)) == ("expression_error", True)
