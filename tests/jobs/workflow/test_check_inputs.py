"""What a workflow is given, its params and its inputs, and what is wrong with them."""

from typing import Any

import pytest

from penstock.jobs.workflow.checks.check import InvalidWorkflow, check
from penstock.jobs.workflow.plan import ColumnKind

from .checked import plan_of, problems_alone, problems_of, workflow_of

ASK = "id: a, type: generate, prompt: x"


@pytest.mark.parametrize(
    ("given", "where", "message"),
    [
        ({"mni": 3}, "params.mni", "no such param; did you mean 'min'?"),
        ({"min": "3"}, "params.min", "must be a number, as its default 2 is, got '3'"),
        ({"min": 2.5}, "params.min", "must be a number"),
        ({"min": True}, "params.min", "must be a number"),
        ({"names": "x"}, "params.names", "must be a list"),
        ({"share": float("nan")}, "params.share", "nan is not a finite number"),
        ({"names": [float("inf")]}, "params.names", "inf is not a finite number"),
        ({"min": 2**70}, "params.min", "a number has 71 bits"),
        ({"names": [object()]}, "params.names", "is no plain data"),
        ({"free": "x" * 500_001}, "params.free", "or 500000 characters"),
    ],
)
def test_what_a_param_may_not_be(given: dict[str, Any], where: str, message: str) -> None:
    params = {"min": 2, "share": 0.5, "names": ["a"], "free": None}
    found = problems_of(ASK, given, params=params)
    assert message in found[where][0], found


def test_a_param_takes_the_place_of_its_default() -> None:
    params = {"min": 2, "share": 0.5, "names": ["a"], "free": None}
    plan = plan_of(ASK, {"share": 1, "names": [], "free": {"a": 1}}, params=params)
    assert plan.params == {"min": 2, "share": 1, "names": [], "free": {"a": 1}}


def test_a_param_without_a_default_is_asked_for_only_when_there_is_a_run() -> None:
    steps = """
        id: c, type: expand, cross: {k: "{{ params.keys }}"}
        id: a, type: generate, prompt: x, n: "{{ params.n }}", model: "org/{{ params.model }}"
        """
    params = {"n": None, "keys": None, "model": None}
    assert problems_alone(steps, params=params) == {}
    found = problems_of(steps, params=params)
    assert found.keys() == {"steps.c.cross.k", "steps.a.n", "steps.a.model"}
    assert problems_of(steps, {"n": 2, "keys": [1], "model": "m"}, params=params) == {}


def test_what_an_input_is_held_to() -> None:
    promised = {"rows": {"columns": {"text": "string", "x": "float64", "gone": "json"}}}
    workflow = workflow_of(ASK, inputs=promised)
    check(workflow, {}, {"rows": {"text": "string", "x": "int64", "gone": "vector"}})
    with pytest.raises(InvalidWorkflow) as caught:
        columns: dict[str, ColumnKind] = {"text": "int64", "row_id": "string"}
        check(workflow, {}, {"rows": columns, "rosw": {}})
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert "promised as string, but the data has int64" in found["inputs.rows.columns.text"]
    assert "no such column" in found["inputs.rows.columns.gone"]
    assert "'row_id' has a name of its rows" in found["inputs.rows"]
    assert "no such input; did you mean 'rows'?" in found["inputs.rosw"]
    with pytest.raises(InvalidWorkflow, match="needs this input, and it is not there"):
        check(workflow, {}, {})


def test_the_first_step_needs_an_input_to_begin_with() -> None:
    assert "the workflow declares none" in problems_of(ASK, inputs={})["inputs"][0]
    found = problems_of(ASK, inputs={"p": {}, "q": {}})
    assert "there are: inputs.p, inputs.q" in found["steps.a.from"][0]
    assert problems_of(f"{ASK}, from: q", inputs={"p": {}, "q": {}}) == {}


def test_before_there_is_an_input_its_columns_are_not_asked_for() -> None:
    steps = """
        id: a, type: expand, explode: things
        id: b, type: generate, prompt: "{{ row.whatever.deep }} {{ row.a.value.x }}"
        id: c, type: reduce, group_by: [topic], agg: {n: count(), m: mean(row.score)}
        id: d, type: filter, where: row.other > 1
        """
    assert problems_alone(steps).keys() == {"steps.d.where"}  # behind the groups all are known


def test_params_may_have_any_name() -> None:
    params = {"rows": 3, "row": ["a", "b"], "row_model": "m"}
    plan = plan_of(
        """
        id: a, type: expand, n: params.rows
        id: b, type: expand, cross: {c: "{{ params.row }}"}
        id: d, type: generate, model: "{{ params.row_model }}", prompt: x
        """,
        params=params,
    )
    assert [step.max_children for step in plan.steps] == [3, 2, 1]
    assert plan.step("d").models == ("m",)
