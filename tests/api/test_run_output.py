"""What people see of runs of workflows, on a terminal of some width."""

from typing import Any

import pytest

from penstock.api.cli_output import OutputFormat, Printer
from penstock.api.cli_runs_output import print_errors, print_run, print_runs
from penstock.api.cli_workflow_output import print_check
from penstock.api.workflow_records import RunRecord

RUN = "run_01K3ZZZZZZZZZZZZZZZZ4K2J9Q"


def run(status: str = "completed", **facts: Any) -> RunRecord:
    step = {"id": "a", "type": "generate", "state": "completed", "rows": {"in": 9, "out": 9}}
    counts = {"input": 123_456, "output": 123_456}
    said = {"id": RUN, "status": status, "workflow": "answers", "steps": [step], "counts": counts}
    return RunRecord.from_json({**said, **facts})


@pytest.mark.parametrize(("width", "kept"), [(90, "steps in out"), (70, "out"), (60, ""), (52, "")])
def test_a_narrow_table_of_runs_keeps_their_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, kept: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_runs(Printer(OutputFormat.TABLE), [run(started_at=1.0, finished_at=3725.0)])
    head, line = capsys.readouterr().out.splitlines()
    assert {RUN, "answers", "completed"} <= set(line.split())
    assert " ".join(name for name in ("steps", "in", "out") if name in head.split()) == kept
    assert max(len(head), len(line)) <= width


def test_a_run_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "error_rate: step a"
    print_run(Printer(OutputFormat.TABLE), run("paused", status_reason=reason))
    shown = capsys.readouterr().out
    assert [shown.count(fact) for fact in (RUN, "answers", "paused", reason)] == [1, 1, 1, 1]


def test_a_check_names_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    step = {"id": "ask", "type": "generate", "from": ["texts"], "models": [], "max_children": 1}
    step |= {"columns": {"text": "string", "ask": "string"}, "waits_for_all_rows": False}
    found = {"name": "flow", "columns_known": True, "warnings": [], "steps": [step]}
    print_check(Printer(OutputFormat.TABLE), {**found, "output": {"columns": {}}})
    assert "text string, ask string" in capsys.readouterr().out


def test_errors_are_told_in_full_and_what_is_alike_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    advice = " ".join(["so", *["much"] * 60, "that its advice stands at the end"])
    said = {"step": "a", "code": "engine_error", "message": advice, "outcome": "kept"}
    errors = [{**said, "row_id": str(number)} for number in range(7)]
    line = {"input": "texts", "line": 6, "code": "rejected_line", "message": "not JSON"}
    assert print_errors(Printer(OutputFormat.TABLE), [line, *errors]) == 8
    shown = " ".join(capsys.readouterr().out.split())
    assert "a: 7 errors" in shown
    assert shown.count("its advice stands at the end") == 1
    assert "row 0, row 1, row 2, row 3, row 4, …" in shown
    assert "inputs.texts: 1 error code rejected_line message not JSON first line 6" in shown
