"""On which line what is wrong with a workflow stands, and in which order it is told."""

import json
import os
from pathlib import Path

import pytest

from penstock.api.client_errors import InvalidInput
from penstock.api.workflow_lines import WorkflowLines
from penstock.api.workflow_models import models_of
from penstock.api.workflow_trial import input_names, specified

from .command import Penstock

FLOW = """\
name: lines
inputs:
  docs: {type: dataset}
defaults:
  model: m
steps:
  - id: short
    type: generate
    prompt: |
      Shorten:
      {{ row.text }}
    retries:
      transient: 1
    odd.key: 1
  - type: filter
    where: row.short
  - {id: short, type: limit, size: 3}
output:
  select: [text]
"""


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("name", 1),
        ("inputs.docs", 3),
        ("inputs.docs.columns.text", 3),
        ("steps.short.id", 17),  # the second of this id, which is one too many
        ("steps[0].prompt", 9),
        ("steps[0].retries.transient", 13),
        ("steps[0].retries.nope", 12),
        ("steps[0].odd.key", 14),
        ("steps[0].odd.keys", 7),
        ("steps[1].where", 16),
        ("steps[1]", 15),
        ("steps[9]", 6),
        ("output.select[0]", 19),
        ("params.n", None),
        ("workflow", None),
        ("", None),
    ],
)
def test_each_part_has_its_line(tmp_path: Path, where: str, line: int | None) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(FLOW)
    assert WorkflowLines.of(file).line_of(where) == line


def test_a_file_at_home_has_lines_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "flow.yaml").write_text(FLOW)
    assert WorkflowLines.of(Path("~/flow.yaml")).line_of("steps[1]") == 15
    assert WorkflowLines.of(Path("~nobody-of-that-name/flow.yaml")).line_of("name") is None


def test_json_has_lines_too(tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(json.dumps({"name": "w", "steps": [{"id": "a", "type": "nope"}]}, indent=2))
    assert WorkflowLines.of(file).line_of("steps.a.type") == 6


@pytest.mark.parametrize("text", ["steps: [", "\tno: yaml", "", "just a text"])
def test_what_cannot_be_read_has_no_lines(tmp_path: Path, text: str) -> None:
    file = tmp_path / "flow.yaml"
    assert WorkflowLines.of(file).line_of("name") is None, "there is no such file"
    file.write_text(text)
    assert WorkflowLines.of(file).line_of("name") is None


def test_a_pipe_is_not_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "flow.yaml")
    assert WorkflowLines.of(tmp_path / "flow.yaml").line_of("name") is None


def test_faults_are_told_by_line_whatever_else_is_wrong(penstock: Penstock, tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(
        "inputs: {docs: {}}\n"
        "steps:\n"
        "  - just a text\n"
        "  - {id: keep, type: filter,\n"
        "     where: row.size >}\n"
        "  - {id: many, type: expnd, n: 0}\n"
    )
    run = penstock("workflow", "validate", file, "--here", "-p", "n=1")
    assert run.code == 2
    told = {each["param"]: each["line"] for each in run.lines[0]["errors"]}
    assert told == {
        "steps[0]": 3,
        "steps.keep.where": 5,
        "steps.many.type": 6,
        "steps.many.n": 6,
        "workflow": None,
        "params.n": None,
    }
    assert list(told.values()) == [3, 5, 6, 6, None, None]
    assert f"{file}:5: steps.keep.where: " in run.err
    assert "\nworkflow: name is missing\n" in run.err


def test_whatever_a_specification_lacks_is_left_to_the_check(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("steps: 5\ninputs: []\n")
    assert specified(file) == specified(str(file)) == {"steps": 5, "inputs": []}
    assert specified({"steps": 5}) == {"steps": 5}
    assert input_names({"inputs": []}) == []
    file.write_text("- a\n")
    with pytest.raises(InvalidInput, match=r"flow\.yaml must be a mapping with name and steps"):
        specified(file)


def test_models_are_looked_for_in_what_can_hold_them() -> None:
    """A stack is started for them before the check has told of anything."""
    assert models_of({"defaults": 5, "params": [1], "steps": [{"cross": 7, "model": "m"}]}, {}) == [
        "m"
    ]
