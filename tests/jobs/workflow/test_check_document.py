import datetime
import time
from typing import Any

import pytest

from penstock.jobs.workflow.asking.document_check import violation
from penstock.jobs.workflow.checks.check import InvalidWorkflow, check, check_alone, read_workflow
from penstock.jobs.workflow.schema import workflow_schema
from penstock.jobs.workflow.spec import Generate, Judge

from .checked import problems_alone

STEP: dict[str, Any] = {"id": "a", "type": "generate", "model": "m", "prompt": "x"}
NAME = "must be a name: a letter, then letters, digits or _"


def document_of(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"name": "w", "inputs": {"rows": {}}, "steps": list(steps or (STEP,)), **more}


def problems_of(document: Any) -> dict[str, str]:
    with pytest.raises(InvalidWorkflow) as caught:
        read_workflow(document)
    return {problem.where: problem.message for problem in caught.value.problems}


def test_a_document_becomes_a_workflow() -> None:
    document = document_of(
        {"id": "a", "type": "generate", "prompt": "x", "from": "rows", "as": "b", "n": 3},
        {
            "id": "j",
            "type": "judge",
            "mode": "reward",
            "messages": [{"role": "user", "content": "y"}],
        },
        defaults={"model": "m", "retries": {"invalid_output": 2}},
        params={"deep": {"er": [1, None]}},
    )
    workflow = read_workflow(document)
    first, second = workflow.steps
    assert isinstance(first, Generate) and (first.from_, first.column, first.n) == ("rows", "b", 3)
    assert isinstance(second, Judge) and second.messages and second.messages[0].content == "y"
    assert workflow.defaults.retries.invalid_output == 2
    assert workflow.params == {"deep": {"er": [1, None]}}
    assert list(workflow.inputs) == ["rows"]


@pytest.mark.parametrize(
    ("document", "where", "message"),
    [
        (document_of({**STEP, "promt": "x"}), "steps.a.promt", "did you mean 'prompt'?"),
        (document_of({**STEP, "n": [1]}), "steps.a.n", "a whole number or a text, got a list of 1"),
        (document_of({**STEP, "type": "exec"}), "steps.a.type", "one of generate, judge, embed"),
        (document_of({**STEP, "type": "generat"}), "steps.a.type", "did you mean 'generate'?"),
        (document_of({**STEP, "type": None}), "steps.a.type", "got null"),
        (document_of({"type": "limit", "size": 3}), "steps[0]", "id is missing"),
        (document_of({"id": "a", "type": "filter"}), "steps.a", "where is missing"),
        (document_of({"id": "a", "type": "limit", "size": 0}), "steps.a.size", ">= 1, got 0"),
        (document_of({**STEP, "wave": 999}), "steps.a.wave", "<= 128, got 999"),
        (
            document_of({**STEP, "retries": {"transient": 10**6}}),
            "steps.a.retries.transient",
            "<= 20",
        ),
        (
            document_of({**STEP, "retries": {"trnsient": 1}}),
            *("steps.a.retries.trnsient", "did you mean 'transient'?"),
        ),
        (
            document_of({**STEP, "messages": [{"role": "usr", "content": "x"}]}),
            *("steps.a.messages[0].role", "one of system, developer, user, assistant, got 'usr'"),
        ),
        (document_of({**STEP, "on_error": "skip"}), "steps.a.on_error", "one of fail, drop, keep"),
        (
            document_of({**STEP, "on_error": {"default": 1}}),
            *("steps.a.on_error", "fail, drop, keep, default, got an object of 1"),
        ),
        (
            document_of({**STEP, "on_error": {"default": 1}}),
            *("steps.a.on_error", "`default: VALUE` stands beside it"),
        ),
        (
            document_of({**STEP, "max_error_rate": 0.1}),
            *("steps.a.max_error_rate", "it stands at the top of the workflow"),
        ),
        (document_of({**STEP, "id": "naïve"}), "steps[0].id", NAME),
        (document_of({**STEP, "id": "__class__"}), "steps[0].id", NAME),
        (document_of({**STEP, "id": "a:b\r\n"}), "steps[0].id", NAME),
        (document_of({**STEP, "id": "a\n"}), "steps[0]", "ends in a line break"),
        (document_of({**STEP, "id": "a" * 41}), "steps[0].id", NAME),
        (document_of({**STEP, "id": 7}), "steps[0].id", "must be a text, got 7"),
        (document_of({**STEP, "as": "b c"}), "steps.a.as", NAME),
        (document_of("generate"), "steps[0]", "must be an object with id and type"),
        (document_of(name="w w"), "name", "letters, digits, _ . or -"),
        (document_of(name="w\n"), "workflow", "ends in a line break"),
        (document_of(version=2), "version", "must be one of 1, got 2"),
        (document_of(webhook={"url": "http://x"}), "webhook", "there is no such field"),
        (document_of(output={"frm": "a"}), "output.frm", "did you mean 'from'?"),
        (document_of(output={"sink": {}}), "output.sink", "uri is missing"),
        (document_of(inputs={"rows": {"type": "datset"}}), "inputs.rows.type", "'dataset'?"),
        *(
            (
                document_of(inputs={"r": {"columns": {"c": said}}}),
                *("inputs.r.columns.c", f"; did you mean {meant!r}?"),
            )
            for said, meant in (("integer", "int64"), ("number", "float64"), ("Text", "string"))
        ),
        (document_of(inputs={"rows": 3}), "inputs.rows", "must be an object, got 3"),
        (document_of(inputs={"r s": {}}), "inputs.'r s'", NAME),
        (document_of(inputs=[]), "inputs", "must be an object of datasets by name"),
        (document_of(max_error_rate=2), "max_error_rate", "<= 1.0, got 2"),
        (document_of(steps=[]), "steps", "a list of 1 to 100 steps, got 0"),
        (document_of(steps="x"), "steps", "a list of 1 to 100 steps, got 'x'"),
        ({"steps": [STEP]}, "workflow", "name is missing"),
        ({}, "steps", "got null"),
        ([], "workflow", "must be an object with name and steps, got a list of 0"),
        (None, "workflow", "got null"),
        (document_of(params={"when": datetime.date(2026, 1, 1)}), "workflow", "no plain data"),
        (document_of(params={"x": {1: 2}}), "workflow", "a key must be a text, got 1"),
        (document_of(params={"x": float("nan")}), "workflow", "nan is not a finite number"),
        (document_of(params={"x": 2**64}), "workflow", "a number has 65 bits"),
        (document_of(params={"x": "a\0"}), "workflow", "what is no character"),
        (document_of(params={"x": "\ud800"}), "workflow", "what is no character"),
    ],
)
def test_what_is_no_workflow(document: Any, where: str, message: str) -> None:
    found = problems_of(document)
    assert message in found[where], found


def test_each_thing_that_is_wrong_is_told() -> None:
    found = problems_of(
        document_of(
            {**STEP, "promt": 1, "n": {}, "samplin": 1},
            {"id": "b", "type": "nope"},
            {"id": "c", "type": "judge", "mode": "x", "wave": 1},
            outputs=1,
            defaults={"on_error": "x"},
        )
    )
    assert found.keys() == {
        *("steps.a.promt", "steps.a.n", "steps.a.samplin", "steps.b.type"),
        *("steps.c.mode", "steps.c.wave", "outputs", "defaults.on_error"),
    }


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def doubled(times: int) -> Any:
    value: Any = "ha"
    for _ in range(times):
        value = [value] * 9
    return value


def itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (document_of(*[STEP] * 10_000), "a list of 1 to 100 steps, got 10000"),
        (document_of(*[STEP] * 100_000), "a list of 1 to 100 steps, got 100000"),
        (document_of(params={"x": nested(100_000)}), "nested more than 64 deep"),
        (document_of({**STEP, "schema": {"a": nested(100)}}), "nested more than 64 deep"),
        (document_of(params={"x": doubled(30)}), "larger than 100000 values"),
        (document_of(params={"x": itself()}), "nested more than 64 deep"),
        (document_of({**STEP, "prompt": "x" * 50_000_000}), "or 500000 characters"),
        (document_of(params={"x" * 3_000_000: 1}), "or 500000 characters"),
        (document_of(params={"x": [0] * 2_000_000}), "larger than 100000 values"),
        (document_of({**STEP, "id": "x" * 400_000}), NAME),
        (document_of({**STEP, "x" * 400_000: 1}), "there is no such field"),
        (document_of({**STEP, "type": "x" * 400_000}), "must be one of generate"),
    ],
)
def test_what_is_far_too_large_is_refused_at_once(document: Any, message: str) -> None:
    began_s = time.process_time()
    found = problems_of(document)
    assert time.process_time() - began_s < 5  # without bounds, for ever
    assert message in " ".join(found.values())
    assert all(len(each) < 1_000 for each in [*found, *found.values()])


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ row.__class__ }}",
        "{{ row['__class__'] }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ ''|attr('__class__') }}",
        "{{ '%s'|format(self) }}",
        "{% include '/etc/passwd' %}",
        "{% extends x %}",
        "{% import 'os' as os %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ lipsum(n=100000) }}",
        "{{ namespace(a=1) }}",
        "{% for %}",
        "{{ row.text | nofilter }}",
        "{# " + "a" * 90_000,
        "{{" + "(" * 2_000 + "1" + ")" * 2_000 + "}}",
        "{% for a in row recursive %}{{ loop(a) }}{% endfor %}",
        "{{ 9 ** 9 ** 9 }}",
        "x" * 100_001,
    ],
)
def test_a_hostile_template_is_refused_with_a_reason(template: str) -> None:
    for step in (
        {**STEP, "prompt": template},
        {**STEP, "messages": [{"role": "user", "content": template}], "prompt": None},
        {"id": "a", "type": "dedupe", "key": template},
        {"id": "a", "type": "embed", "model": "m", "text": template},
        {**STEP, "model": template},
    ):
        with pytest.raises(InvalidWorkflow) as caught:
            check(read_workflow(document_of(step)), {}, {"rows": {"text": "string"}})
        assert all(problem.where.startswith("steps.a.") for problem in caught.value.problems)


def test_bombs_that_a_template_may_hold_are_left_to_its_budget() -> None:
    bomb = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
    assert problems_alone(f"id: a, type: generate, prompt: '{bomb}'") == {}


@pytest.mark.parametrize(
    "expression",
    [
        *("''.__class__ == 1", "__import__('os')", "eval('1')", "open('/etc/passwd')"),
        *("row.__class__.__mro__()", "(lambda: 1)()", "[x for x in row.text]", "9**9**9"),
        *("'a' * 5000000000", "row.text * 9", "(" * 500 + "1" + ")" * 500, "x" * 20_000),
    ],
)
def test_a_hostile_expression_is_refused_with_a_reason(expression: str) -> None:
    columns = {"rows": {"columns": {"text": "string"}}}
    step = {"id": "a", "type": "filter", "where": expression}
    with pytest.raises(InvalidWorkflow) as caught:
        check_alone(read_workflow(document_of(step, inputs=columns)))
    assert caught.value.problems[0].where == "steps.a.where"


def test_the_published_schema_says_what_is_read() -> None:
    schema = workflow_schema()
    good = document_of(
        {**STEP, "schema": {"a": "int"}, "retries": {"invalid_output": 1}},
        {"id": "b", "type": "expand", "split": {"field": "text", "by": "words"}},
        {"id": "c", "type": "reduce", "group_by": ["n"], "agg": {"n": "count()"}},
        {"id": "d", "type": "join", "from": ["b", "c"], "on": {"n": "n"}},
        output={"from": "d", "select": ["n"], "sink": {"uri": "s3://b/p"}},
    )
    read_workflow(good)
    assert violation(good, schema) is None
    for bad in (
        document_of({**STEP, "promt": "x"}),
        document_of({**STEP, "type": "exec"}),
        document_of({"id": "a", "type": "filter"}),
        document_of(webhook={}),
        {"name": "w"},
    ):
        problems_of(bad)
        assert violation(bad, schema) is not None
    for name, part in schema["$defs"].items():
        assert part["description"], name
        assert "\n    " not in part["description"]
        assert part["additionalProperties"] is False
