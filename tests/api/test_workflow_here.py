"""Workflows checked where no server is: the same answers, in a process that is bounded."""

import json
from pathlib import Path

import pytest

from penstock import Workflow
from penstock.api import workflow_here
from penstock.api.client_errors import MissingPackage, PenstockError
from penstock.api.workflow_here import check_here, require_packages

from .command import Penstock
from .conftest import MODEL
from .plain_workflows import WORKFLOW, rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "said.yaml"
    path.write_text(Workflow.from_dict(WORKFLOW).to_yaml())
    return path


def test_a_workflow_is_checked_without_a_server(
    penstock: Penstock, file: Path, tmp_path: Path
) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text(json.dumps(rows(1)[0]))
    run = penstock("workflow", "validate", file, "-i", data, "--here", "-o", "table")
    assert run.code == 0, run.err
    assert "text string, said json" in run.out
    assert "copy: a row becomes 1,000 at most; `max` sets it" in run.out
    assert f"no server is asked: whether one serves {MODEL} is not known" in run.err
    file.write_text(file.read_text().replace("row.said.size <", "row.saad.size <"))
    data.write_text('{"text": 7, "size": 1}')
    run = penstock("workflow", "validate", file, "-i", data, "--here")
    assert run.code == 2
    assert {each["param"] for each in run.lines[0]["errors"]} == {
        "inputs.texts.columns.text",
        "steps.small.where",
    }
    assert "2 problems; nothing was run" in run.err


def test_rows_of_a_workflow_without_inputs_do_not_keep_the_rest_from_being_checked(
    penstock: Penstock, tmp_path: Path
) -> None:
    file = tmp_path / "none.yaml"
    file.write_text("name: none\nsteps: [{id: a, type: filter, where: row.x >}]\n")
    for given in ("rows.jsonl", "texts=rows.jsonl"):
        run = penstock("workflow", "validate", file, "-i", given, "--here")
        assert run.code == 2
        assert {each["param"] for each in run.lines[0]["errors"]} == {"inputs", "steps.a.where"}
        assert f"not looked at, as the workflow declares no input: {given}" in run.err


def test_the_schema_needs_no_server(penstock: Penstock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.cli_workflow_schema.answers", lambda settings: False)
    run = penstock("workflow", "schema")
    assert run.code == 0
    assert "Generate" in json.loads(run.out)["$defs"]


def test_a_model_that_nobody_names_is_the_one_of_the_settings() -> None:
    trial = {"workflow": {**WORKFLOW, "defaults": {}}, "params": {}, "inputs": {}}
    found = check_here(trial, ("only",))
    assert {step["id"]: step["models"] for step in found["steps"]}["said"] == ["only"]
    assert check_here(trial, ("a", "b"))["errors"][0]["param"] == "steps.said.model"


def test_a_check_that_takes_too_much_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = {"workflow": WORKFLOW, "params": {}, "inputs": {}}
    monkeypatch.setattr(workflow_here, "MAX_CHECK_S", 0.01)
    with pytest.raises(PenstockError, match=r"was not checked after 0\.01 s"):
        check_here(trial, ())


def test_a_light_client_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow_here, "_NEEDED", ("msgspec", "no_such_package"))
    with pytest.raises(MissingPackage, match="without no_such_package none of this"):
        require_packages()
