"""One pass tells all that is wrong with a workflow, whatever kind it is, and nothing besides."""

from typing import Any

import pytest

from penstock.jobs.workflow.checks.check import InvalidWorkflow, check_document

from .checked import COLUMNS

ROWS = {"rows": COLUMNS}


def problems_in(
    document: Any,
    params: dict[str, Any] | None = None,
    inputs: Any = ROWS,
    served: tuple[str, ...] = (),
) -> dict[str, str]:
    with pytest.raises(InvalidWorkflow) as caught:
        check_document(document, params or {}, inputs, served=served)
    return {problem.where: problem.message for problem in caught.value.problems}


def document_of(*steps: Any, **more: Any) -> dict[str, Any]:
    document = {"name": "w", "inputs": {"rows": {}}, "defaults": {"model": "m"}}
    return {**document, "steps": list(steps), **more}


def test_faults_of_all_kinds_are_told_in_one_pass() -> None:
    found = problems_in(
        document_of(
            {"id": "a", "type": "generate", "promt": "x", "sampling": {"top_p": 7}},
            {"id": "b", "type": "jugde", "prompt": "{{ row.anything }}"},
            {"id": "c", "type": "filter", "from": "rows"},
            {"id": "d", "type": "map", "from": "rows", "set": {"y": "row.txet"}},
            {"id": "e", "type": "generate", "prompt": "{{ row.text", "schema": {"s": "itn"}},
            {"id": "f", "type": "filter", "where": "row.e.s > 1 and row.n > 'x'"},
            {"id": "g", "type": "judge", "model": "gone", "prompt": "{{ row.text }}"},
            {"id": "h", "type": "join", "from": ["f", "nope"]},
            {"id": "i", "type": "reduce", "from": "rows", "pick": {"max": "row.n"}},
            {"id": "j", "type": "expand", "from": "rows", "n": 5000},
            {"id": "k", "type": "limit", "from": "rows", "size": "many"},
            outputs={},
            output={"from": "k", "select": ["text", "nothing"]},
            schemas={"bad": {"a": "itn"}},
            params={"k": 1},
            defaults={"model": "m", "on_error": "shrug"},
        ),
        params={"q": 2},
        served=("m", "other"),
    )
    assert found == {
        "steps.a.promt": "there is no such field; did you mean 'prompt'?",
        "steps.b.type": found["steps.b.type"],
        "steps.b.prompt": found["steps.b.prompt"],
        "steps.c": "where is missing",
        "steps.k.size": "must be a whole number, got 'many'",
        "outputs": "there is no such field; did you mean 'output'?",
        "defaults.on_error": "must be one of fail, drop, keep, default, got 'shrug'",
        "params.q": "the workflow has no such param; known: k",
        "schemas.bad": found["schemas.bad"],
        "steps.h.from": found["steps.h.from"],
        "steps.a.sampling.top_p": found["steps.a.sampling.top_p"],
        "steps.d.set.y": found["steps.d.set.y"],
        "steps.e.prompt": found["steps.e.prompt"],
        "steps.e.schema": found["steps.e.schema"],
        "steps.f.where": found["steps.f.where"],
        "steps.g.model": "'gone' is not served here; served: m, other",
        "steps.i.group_by": found["steps.i.group_by"],
        "steps.j.n": "must be from 1 to 1000 (`max` allows more), got 5000",
        "output.select": found["output.select"],
    }


ASKS = {"id": "a", "type": "generate", "prompt": "x", "schema": dict.fromkeys("xyz", "int")}


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "a", "type": "nope"},
        {**ASKS, "type": "genrate", "n": 2},
        {"id": "a", "type": "fliter", "where": "row.n"},
        {"id": "a", "type": "generate", "promt": "x", "n": 2},
        {**ASKS, "n": "{{ params.none }}"},
        {**ASKS, "n": {}},
        {**ASKS, "n": 2, "schema": {"x": "itn"}},
        {**ASKS, "n": 2, "prompt": "{{ row.nope", "sampling": {"top_p": 9}},
        {"id": "a", "type": "generate", "prompt": "x", "n": 2, "schema_ref": "bad"},
        {**ASKS, "from": "nope"},
        {**ASKS, "from": 7},
        {"id": "a", "type": "expand", "explode": "row.text"},
        {"id": "a", "type": "expand", "cros": {"x": [1]}},
        {"id": "a", "type": "join", "from": ["rows", "nope"]},
        {"id": "a", "type": "join", "on": 3},
        {"id": "a", "type": "nope", "from": ["rows", "rows"]},
        {"id": "a", "type": "reduce", "group_by": "parnt", "agg": {"x": "count()"}},
        {"id": "a b", "type": "nope"},
        "generate",
    ],
)
def test_what_comes_behind_a_fault_is_not_blamed_for_it(broken: Any) -> None:
    """Whatever the step at fault was to add, these steps may rely on it."""
    behind = (
        {"id": "p", "type": "map", "set": {"x": "row.a.x + 1"}},
        {"id": "q", "type": "generate", "prompt": "{{ row.a.y }} {{ row.text }} {{ row.p.x }}"},
        {"id": "r", "type": "reduce", "group_by": "parent", "pick": {"max": "row.a.z"}},
    )
    found = problems_in(document_of(broken, *behind, schemas={"bad": 7}))
    assert not {where for where in found if where.startswith(("steps.p", "steps.q", "steps.r"))}
    assert found.keys() - {"schemas.bad"} or broken["schema_ref"] == "bad"


def test_a_step_under_the_name_of_another_is_told_of_once() -> None:
    step = {"id": "a", "type": "generate", "prompt": "{{ row.text }}"}
    assert problems_in(document_of(step, step)) == {"steps.a.id": "2 steps have this id"}


def test_what_is_known_of_some_inputs_is_used_while_others_are_missing() -> None:
    document = document_of(
        {"id": "a", "type": "filter", "from": "rows", "where": "row.txt"},
        {"id": "b", "type": "filter", "from": "more", "where": "row.whatever"},
        inputs={"rows": {}, "more": {}},
    )
    assert problems_in(document).keys() == {"steps.a.where"}


def test_a_default_model_that_nobody_serves_is_told_of_once() -> None:
    step = {"type": "generate", "prompt": "{{ row.text }}"}
    document = document_of({**step, "id": "a"}, {**step, "id": "b"})
    found = problems_in(document, served=("n",))
    assert found == {"defaults.model": "'m' is not served here; served: n"}
    assert check_document(document, {}, ROWS).steps  # nobody serves any yet


def test_a_frame_that_is_broken_hides_no_step() -> None:
    step = {"id": "a", "type": "filter", "where": "row.txt"}
    for broken in ({"name": 7}, {"defaults": []}, {"schemas": 3}, {"output": 1}):
        assert "steps.a.where" in problems_in(document_of(step, **broken)), broken


FILTER = {"id": "f", "type": "filter", "where": "row.text == 1"}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"id": "a", "type": "genrate", "prompt": "{{ row.txt }}", "n": 500}, {"prompt", "n"}),
        ({"id": "a", "type": "fliter", "wher": "row.text", "on_eror": 1}, {"wher", "on_eror"}),
        ({"id": "a", "type": "fliter", "where": "row.txt", "default": 1}, {"where", "default"}),
        ({"id": "a", "type": "split", "field": "row.txt", "size": "many"}, set()),
        ({"id": "a", "type": "split", "size": "many"}, {"size"}),
        ({"id": "a", "type": "split"}, set()),
    ],
)
def test_a_step_is_taken_for_the_type_that_it_looks_like(
    step: dict[str, Any], told: set[str]
) -> None:
    """Whose own fault is found too, unless its fields are those of no such type."""
    found = problems_in(document_of(step))
    assert found.keys() == {"steps.a.type", *(f"steps.a.{name}" for name in told)}


def test_a_misspelt_field_is_not_missing_as_well() -> None:
    steps = (
        {"id": "a", "type": "filter", "wher": "row.text"},
        {"id": "b", "type": "expand", "split": {"feild": "row.text", "by": "wrods"}},
        {"id": "c", "type": "generate", "messages": [{"rol": "user", "content": 7}, {"role": "u"}]},
    )
    assert problems_in(document_of(*steps)).keys() == {
        *("steps.a.wher", "steps.b.split.feild", "steps.b.split.by", "steps.c.messages[0].rol"),
        *("steps.c.messages[0].content", "steps.c.messages[1].role", "steps.c.messages[1]"),
    }


def test_a_part_under_a_misspelt_name_is_the_part_that_is_meant() -> None:
    """Its own faults are told, and nobody is blamed for what it holds."""
    document = {
        "nam": "w",
        "input": {"rows": {"columns": {"text": "strng"}}},
        "default": {"model": "m", "on_error": "shrug"},
        "step": [{"id": "a", "type": "map", "from": "rows", "set": {"y": "row.text +"}}, FILTER],
        "outputs": {"from": "a", "selct": ["y"]},
    }
    assert problems_in(document, inputs={}).keys() == {
        *("nam", "input", "default", "step", "outputs", "inputs.rows.columns.text"),
        *("defaults.on_error", "steps.a.set.y", "output.selct"),
    }


def test_a_name_that_is_none_keeps_nothing_from_being_looked_at() -> None:
    document = document_of(
        {"id": "a", "type": "expand", "cross": {"1x": [1], "y": [2], "2z": 3}, "max": 0},
        {**FILTER, "from": "rows", "where": "row.txt"},
        params={"k l": 1},
        schemas={"no name": {}},
    )
    found = problems_in(document)
    assert found.keys() == {
        *("steps.a.cross.1x", "steps.a.cross.2z", "steps.a.max", "steps.f.where"),
        *("params.k l", "schemas.no name"),
    }
    assert found["params.k l"].startswith("must be a name: a letter, then letters, digits or _")


def test_without_steps_all_the_rest_is_looked_at() -> None:
    found = problems_in({"name": "a b", "defaults": {"modell": "m"}})
    assert found.keys() == {"steps", "name", "defaults.modell"}


TEXT = {"text": "string"}
ASK = {"type": "generate", "prompt": "{{ row.text }}"}
WITH_DEFAULT = {**ASK, "id": "a", "schema": {"n": "int"}, "default": "x"}


@pytest.mark.parametrize(
    ("steps", "more", "told"),
    [
        (
            [
                {**ASK, "idd": "a"},
                {**FILTER, "id": "g", "where": "row.a == 'x'"},
                {**FILTER, "from": "a", "where": "row.a == 'x'"},
            ],
            {"output": {"from": "a", "select": ["a"]}, "inputs": {"rows": {"columns": TEXT}}},
            "steps[0].idd",
        ),
        ([{**ASK, "id": "a"}], {"defaults": {"models": "m"}}, "defaults.models"),
        (
            [{**ASK, "id": "a"}],
            {"inputs": {"rows": {"columns": {"n": "int64", "text": 1}}}},
            "inputs.rows.columns.text",
        ),
        (
            [
                {"id": "a", "type": "expnd", "cross": {"who": ["m"]}, "each": 1},
                {**ASK, "id": "b", "model": "{{ row.who }}"},
            ],
            {},
            "steps.a.type",
        ),
        (
            [{**ASK, "id": "a", "ass": "col"}, {**FILTER, "where": "row.col == 'x'"}],
            {"inputs": {"rows": {"columns": TEXT}}},
            "steps.a.ass",
        ),
        (
            [{**ASK, "id": "a", "as": "c l"}, {**FILTER, "where": "row.cl == 'x'"}],
            {"inputs": {"rows": {"columns": TEXT}}},
            "steps.a.as",
        ),
        (
            [{**WITH_DEFAULT, "on_eror": "default"}, {**FILTER, "where": "row.a == 'x'"}],
            {},
            "steps.a.on_eror",
        ),
        ([{**WITH_DEFAULT, "on_error": "defualt"}], {}, "steps.a.on_error"),
        (
            [WITH_DEFAULT, {**FILTER, "where": "row.a == 'x'"}],
            {"defaults": {"model": "m", "on_error": "defualt"}},
            "defaults.on_error",
        ),
        ([WITH_DEFAULT], {"defaults": {"model": "m", "on_eror": "default"}}, "defaults.on_eror"),
        ([WITH_DEFAULT], {"defaults": ["m"]}, "defaults"),
        ([{**ASK, "id": "a"}], {"descriptions": ["x"]}, "descriptions"),
        ([{**ASK, "id": "a"}], {"versions": [1]}, "versions"),
        ([{**ASK, "id": "a"}], {"max_error_rates": {"a": 0.1}}, "max_error_rates"),
    ],
)
def test_one_fault_is_told_once(
    steps: list[dict[str, Any]], more: dict[str, Any], told: str
) -> None:
    """Whatever names the step, the column or the model that is not known for it."""
    assert problems_in(document_of(*steps, **more), inputs={}).keys() == {told}


def test_a_default_is_told_of_unless_it_may_be_meant() -> None:
    """A step's own `on_error` counts, however the one of `defaults` is written."""
    found = problems_in(document_of({**WITH_DEFAULT, "on_error": "drop"}, defaults=["m"]))
    assert found.keys() == {"defaults", "steps.a.default"}


def test_a_name_that_is_taken_hides_nothing_behind_it() -> None:
    steps = ({**ASK, "id": "a", "as": "text"}, {**FILTER, "where": "row.txet == 'x'"})
    assert problems_in(document_of(*steps)).keys() == {"steps.a.as", "steps.f.where"}
