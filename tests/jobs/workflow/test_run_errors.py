"""What went wrong in a run: all of it is told, it is judged as it should be, and it lasts."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from penstock.jobs.errors import InvalidJob
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.part_file import read_part
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.runs import error_rates, run_errors
from penstock.jobs.workflow.runs.run_errors import RunError, read_errors
from penstock.jobs.workflow.runs.runs import RunSnapshot, resume_run
from penstock.jobs.workflow.workshop import fault_file
from penstock.jobs.workflow.workshop.fault_file import fault_files

from .small_runs import Refused, SmallRuns, in_small_shards

LONG = "long " * 1_000


def model(body: dict[str, Any]) -> str:
    if body["prompt"] == "5":
        raise Refused(LONG)
    return body["prompt"]


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, model)


def finished(runs: SmallRuns, *steps: dict[str, Any], **fields: Any) -> RunSnapshot:
    return runs.finish(begun(runs, *steps, **fields))


def begun(runs: SmallRuns, *steps: dict[str, Any], **fields: Any) -> str:
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": {"model": "fake"}, **fields}
    rows: list[Any] = [{"n": n, "t": None if n == 6 else str(n)} for n in range(8)]
    rows.insert(3, "no row")
    return runs.submit({**document, "steps": list(steps)}, {"rows": rows}).run_id


STEPS: list[dict[str, Any]] = [
    {"id": "half", "type": "map", "set": {"x": "1 / row.n"}, "on_error": "drop"},
    {"id": "some", "type": "filter", "where": "1 / (row.n - 1) < 9", "on_error": "default",
     "default": False},
    {"id": "pair", "type": "expand", "explode": "[row.n] if row.n != 2 else row.n"},
    {"id": "said", "type": "generate", "prompt": "{{ row.n }}"},
    {"id": "once", "type": "dedupe", "key": "{{ row.t }}"},
]  # fmt: skip
# Rows have the numbers of their lines; the line at 3 is none, so n is one less from there on.
ALL = [
    (None, "rejected_line", None, None),
    ("half", "expression_error", "0", "dropped"),
    ("some", "expression_error", "1", "defaulted"),
    ("pair", "expression_error", "2", "kept"),
    ("said", "engine_error", "6/pair#0", "kept"),
    ("once", "template_error", "7/pair#0", "kept"),
]


def told(error: RunError) -> tuple[Any, ...]:
    return error.step, error.code, error.row_id, error.outcome


def all_of(runs: SmallRuns, run_id: str, limit: int) -> tuple[list[RunError], int]:
    """Read all errors; also tell how many pages that took."""
    found: list[RunError] = []
    after, num_pages = None, 0
    while True:
        page = read_errors(runs.settings, run_id, after=after, limit=limit)
        found += page.errors
        after, num_pages = page.next_cursor, num_pages + 1
        if after is None:
            return found, num_pages


def test_all_that_went_wrong_is_told(runs: SmallRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(runs, *STEPS)
    found, num_pages = all_of(runs, run.run_id, 100)
    assert [told(each) for each in found] == ALL
    assert num_pages == 1
    assert (found[0].input, found[0].line) == ("rows", 4)
    assert [(each.input, each.line) for each in run.rejected] == [("rows", 4)]
    assert found[4].message.startswith("long long")
    assert len(found[4].message) == 1_000
    assert len(run.steps[3].examples[0][2]) == 1_000
    assert all_of(runs, run.run_id, 1) == (found, len(found))
    for name in ("MAX_FILES_READ", "MAX_ROWS_READ"):
        with monkeypatch.context() as bounded:
            bounded.setattr(run_errors, name, 1)
            assert all_of(runs, run.run_id, 100) == (found, len(found))


def test_a_page_of_rejected_lines_begins_where_the_last_one_ended(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"id": "same", "type": "map", "set": {"x": "row.n"}}
    rows: list[Any] = ["no row", {"n": 1}] * 9
    document = {"name": "w", "inputs": {"rows": {}}, "steps": [step]}
    run_id = runs.submit(document, {"rows": rows}).run_id
    read: list[bytes] = []
    plain = msgspec.json.decode

    def noted(line: bytes, **as_what: Any) -> Any:
        read.append(line)
        return plain(line, **as_what)

    monkeypatch.setattr(msgspec.json, "decode", noted)
    found, num_pages = all_of(runs, run_id, 2)
    lines = [line for line in read if b'"message"' in line]
    assert [each.line for each in found] == list(range(1, 18, 2))
    assert (num_pages, len(lines)) == (5, 13), "each line once, and the one behind each page"
    lines.clear()
    read.clear()
    page = read_errors(runs.settings, run_id, code="engine_error", limit=2)
    assert (page.errors, page.next_cursor) == ([], None)
    assert not [line for line in read if b'"message"' in line], "no line has another code"
    for after in ("0.0.1", "0.0.999999"):
        with pytest.raises(InvalidJob, match="no rejected line of rows begins at byte"):
            read_errors(runs.settings, run_id, after=after, limit=1)


def test_rows_that_go_on_say_why_they_lack_a_value(runs: SmallRuns) -> None:
    run = finished(runs, *STEPS)
    for step, number, row_id in (("pair", 2, "2/pair#0"), ("said", 5, "6/pair#0")):
        rows = [
            row
            for part in runs.results(run.run_id).step(step).parts().values()
            for row in read_part(part).to_pylist()
        ]
        assert {row["row_id"] for row in rows if row[f"{step}__error"]} == {row_id}
        error = next(row[f"{step}__error"] for row in rows if row["n"] == number)
        assert set(error) == {"code", "message", "stage"}
    assert "said__error" not in runs.output(run.run_id)[0], "the output has the plan's columns"


def test_a_damaged_file_hides_no_other(runs: SmallRuns) -> None:
    run = finished(runs, *STEPS)
    (path,) = fault_files(runs.results(run.run_id).step("said")).values()
    path.write_bytes(b"no parquet")
    found, _ = all_of(runs, run.run_id, 100)
    assert [told(each) for each in found] == [*ALL[:4], *ALL[5:]]
    for wrong in ({"step": "nope"}, {"after": "1"}, {"after": "1.2.x"}, {"after": "9" * 5_000}):
        with pytest.raises(InvalidJob):
            read_errors(runs.settings, run.run_id, limit=1, **wrong)


def test_all_of_a_step_that_gathers_is_told_file_by_file(
    runs: SmallRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_file, "MAX_FAULTS", 3)
    step = {"id": "once", "type": "dedupe", "key": "{{ row.n / 0 }}", "on_error": "keep"}
    run = finished(runs, step)
    found, _ = all_of(runs, run.run_id, 100)
    assert [each.row_id for each in found[1:]] == ["0", "1", "2", *map(str, range(4, 9))]
    place = runs.results(run.run_id).step("once")
    assert list(fault_files(place)) == [0, 1, 2]
    rows = [row for part in place.parts().values() for row in read_part(part).to_pylist()]
    assert all(row["once__error"]["code"] == "template_error" for row in rows)


@pytest.mark.parametrize(
    ("policy", "state", "counts"),
    [
        ({"on_error": "keep"}, JobState.COMPLETED_WITH_ERRORS, (1, 0, 0)),
        ({"on_error": "drop"}, JobState.COMPLETED_WITH_ERRORS, (1, 1, 0)),
        ({"on_error": "default", "default": {"x": 0}}, JobState.COMPLETED, (0, 0, 1)),
        ({"on_error": "fail"}, JobState.FAILED, (1, 1, 0)),
    ],
)
def test_what_a_default_stands_in_for_is_no_error(
    runs: SmallRuns, policy: dict[str, Any], state: JobState, counts: tuple[int, int, int]
) -> None:
    run = finished(runs, {"id": "half", "type": "map", "set": {"x": "1 / row.n"}, **policy})
    assert run.state is state
    (step,) = run.steps
    assert (step.failed, step.lost, step.defaulted) == counts
    assert step.errors == {"expression_error": 1}


def test_every_step_is_judged_by_itself(runs: SmallRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_rates, "JUDGED_AFTER", 3)
    steps = [
        {"id": "fine", "type": "map", "set": {"x": "row.n"}},
        {"id": "bad", "type": "map", "set": {"x": "1 / (row.n * 0)"}},
        {"id": "late", "type": "generate", "prompt": "{{ row.n }}"},
    ]
    run_id = begun(runs, *steps, max_error_rate=0.3)
    assert not runs.lead(run_id, 30)
    paused = runs.read(run_id)
    assert paused.state is JobState.PAUSED
    reason = paused.status_reason or ""
    assert reason.startswith("error_rate: step bad: 3 of 3 rows failed (100.0%, more than 30.0%)")
    assert "expression_error 3 (/ by zero" in reason
    asked = runs.asked(run_id)
    assert asked == [], "nothing more is begun"
    for _ in range(2):  # each shard is held against the run again, but none twice
        resume_run(runs.settings, runs.table, run_id)
        assert not runs.lead(run_id, 30)
    resume_run(runs.settings, runs.table, run_id)
    assert runs.finish(run_id).state is JobState.COMPLETED_WITH_ERRORS


def test_when_it_began_is_known_to_whoever_leads_next(runs: SmallRuns) -> None:
    run_id = begun(runs, *STEPS)
    assert runs.read(run_id).started_at_ms is None
    assert not runs.lead(run_id, 4)
    started = runs.read(run_id).started_at_ms
    assert started is not None
    runs.table.redis.flushall()
    assert runs.read(run_id).started_at_ms == started
    assert runs.finish(run_id).started_at_ms == started
