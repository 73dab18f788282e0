"""Whatever is brought as a workflow: it is planned, or all that is wrong with it is told."""

import copy
from typing import Any

from hypothesis import given, settings, strategies as st

from penstock.jobs.workflow.checks.check import (
    InvalidWorkflow,
    check,
    check_alone,
    check_document,
    read_workflow,
)
from penstock.jobs.workflow.plan import INPUT

from .checked import COLUMNS

WHOLE: dict[str, Any] = {
    "name": "w",
    "inputs": {"rows": {}, "more": {"columns": {"n": "int64"}}},
    "params": {"k": 2, "models": ["a", "b"], "least": 7.5},
    "defaults": {"model": "m", "sampling": {"max_tokens": 9}, "on_error": "keep"},
    "schemas": {"order": {"type": "object", "properties": {"total": {"type": "number"}}}},
    "steps": [
        {"id": "part", "type": "expand", "from": "rows", "split": {"field": "text"}, "max": 9},
        {"id": "cand", "type": "generate", "n": "{{ params.k }}", "prompt": "{{ row.part.text }}"},
        {"id": "doc", "type": "generate", "prompt": "{{ row.cand }}", "schema_ref": "order"},
        {"id": "j", "type": "judge", "prompt": "{{ row.doc.total }}", "schema": {"score": "int"}},
        {"id": "keep", "type": "filter", "where": "row.j.score >= params.least"},
        {"id": "best", "type": "reduce", "pick": {"max": "row.j.score"}},
        {"id": "sum", "type": "reduce", "prompt": "{{ rows[0].cand }}", "fold": {"max_rows": 4}},
        {"id": "cell", "type": "expand", "cross": {"model": "{{ params.models }}", "t": [1, 2]}},
        {"id": "ask", "type": "generate", "model": "{{ row.model }}", "prompt": "x", "n": 2},
        {"id": "vec", "type": "embed", "text": "{{ row.ask }}"},
        {"id": "m", "type": "map", "set": {"y": "row.n + 1", "z": "row.ask | trim == 'a'"}},
        {"id": "joined", "type": "join", "from": ["m", "more"], "on": "n", "how": "left"},
        {"id": "both", "type": "concat", "from": ["joined", "m"]},
        {"id": "one", "type": "dedupe", "key": "{{ row.ask | lower }}"},
        {"id": "few", "type": "sample", "size": 10},
        {"id": "report", "type": "reduce", "group_by": ["model"], "agg": {"n": "mean(row.m.z)"}},
        {"id": "last", "type": "limit", "size": 3},
    ],
    "output": {"from": "last", "select": ["model", "report.n"]},
}

WORDS = st.sampled_from(
    [
        *("row", "text", "part", "cand", "inputs.rows", "parent", "row_id", "{{ row.text }}"),
        *("{{ params.k }}", "row.j.score", "count()", "mean(row.n)", "{{", "{% if", "", "$ref"),
        *("enum[a,b]", "list[int]", "int", "#/$defs/x", "generate", "reduce", "pairwise", "é\n"),
    ]
)
VALUES = st.recursive(
    st.one_of(WORDS, st.none(), st.booleans(), st.integers(-3, 200), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List where something stands in a document."""
    found = [path] if path else []
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        found += places(inner, (*path, key))
    return found


def has(of: Any, key: Any) -> bool:
    if isinstance(of, list):
        return isinstance(key, int) and key < len(of)
    return isinstance(of, dict) and key in of


def changed(document: dict[str, Any], path: tuple[Any, ...], how: str, value: Any) -> None:
    """Spoil one place, if it is still there."""
    *outer, last = path
    of: Any = document
    for key in outer:
        if not has(of, key):
            return
        of = of[key]
    if not has(of, last):
        return
    match how:
        case "replace":
            of[last] = value
        case "remove":
            del of[last]
        case "add" if isinstance(of, dict):
            of[value if isinstance(value, str) else "x"] = of[last]
        case "swap" if isinstance(of, list):
            of[0], of[last] = of[last], of[0]


def inputs_of(document: Any) -> dict[str, Any]:
    return {"rows": COLUMNS, "more": {"n": "int64"}} if document.get("inputs") else {}


def test_the_whole_is_planned() -> None:
    plan = check(read_workflow(WHOLE), {}, inputs_of(WHOLE))
    assert len(plan.steps) == len(WHOLE["steps"]) + 1
    ids = [step.id for step in plan.steps]
    for index, step in enumerate(plan.steps):
        assert all(source.startswith(INPUT) or source in ids[:index] for source in step.sources)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(places(WHOLE)),
            st.sampled_from(["replace", "replace", "remove", "add", "swap"]),
            VALUES,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_spoilt_document_is_planned_or_told_of(changes: list[tuple[Any, str, Any]]) -> None:
    document = copy.deepcopy(WHOLE)
    for path, how, value in changes:
        changed(document, path, how, value)
    try:
        workflow = read_workflow(document)
        check_alone(workflow)
        plan = check(workflow, {}, inputs_of(document))
    except InvalidWorkflow as error:
        assert error.problems
        assert all(each.where and each.message for each in error.problems)
        return
    assert plan.steps
    assert all(set(plan.step(step.id).columns) for step in plan.steps)
    assert 1 <= plan.shard_rows <= 256


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(places(WHOLE)),
            st.sampled_from(["replace", "remove", "add", "swap"]),
            VALUES,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_one_pass_over_a_spoilt_document_tells_what_two_would(
    changes: list[tuple[Any, str, Any]],
) -> None:
    document = copy.deepcopy(WHOLE)
    for path, how, value in changes:
        changed(document, path, how, value)
    inputs = inputs_of(document)
    try:
        expected = check(read_workflow(document), {}, inputs)
    except InvalidWorkflow as error:
        told: Any = set(error.problems)
    else:
        assert check_document(document, {}, inputs) == expected
        return
    try:
        check_document(document, {}, inputs)
    except InvalidWorkflow as error:
        assert told <= set(error.problems)
    else:
        raise AssertionError(f"nothing was told, instead of {told}")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(VALUES)
def test_anything_is_a_workflow_or_told_of(document: Any) -> None:
    try:
        read_workflow(document)
    except InvalidWorkflow as error:
        assert error.problems
