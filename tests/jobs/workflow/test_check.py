import time
from typing import Any

import pytest

from penstock.jobs.workflow.checks.check import InvalidWorkflow, check, read_workflow
from penstock.jobs.workflow.checks.problems import MAX_PROBLEMS
from penstock.jobs.workflow.plan import ColumnKind

from .checked import plan_of, problems_alone, problems_of

ASK = "id: a, type: generate, prompt: x"


@pytest.mark.parametrize(
    ("steps", "where", "message"),
    [
        # where rows come from
        (f"{ASK}, from: b\nid: b, type: limit, size: 1, from: a", "a.from", "in a circle: a <- b"),
        (f"{ASK}, from: b\nid: b, type: limit, size: 1, from: rows", "a.from", "comes later"),
        (f"{ASK}, from: a", "a.from", "a step cannot take its own rows"),
        (f"{ASK}, from: rwos", "a.from", "no step or input 'rwos'; known: inputs.rows"),
        (f"{ASK}, from: inputs.row", "a.from", "did you mean 'inputs.rows'?"),
        (f"{ASK}, from: [rows, rows]", "a.from", "a generate takes the rows of 1 steps, got 2"),
        ("id: a, type: concat", "a.from", "a concat must say whose rows it takes"),
        ("id: a, type: join, from: rows", "a.from", "takes the rows of 2 steps, got 1"),
        (f"{ASK}\n{ASK}", "a.id", "2 steps have this id"),
        ("id: row_id, type: limit, size: 1", "row_id.id", "is kept for other uses"),
        ("id: a__b, type: limit, size: 1", "a__b.id", "is kept for other uses"),
        ("id: text, type: generate, prompt: x", "text.as", "have a column 'text' already"),
        ("id: a, as: text, type: map, set: {y: '1'}", "a.as", "have a column 'text' already"),
        ("id: a, as: parent_id, type: map, set: {y: '1'}", "a.as", "is kept for other uses"),
        ("id: a, type: expand, cross: {n: [1]}", "a.as", "have a column 'n' already"),
        # words and models
        ("id: a, type: generate", "a.prompt", "neither a prompt nor messages"),
        (f"{ASK}, messages: [{{role: user, content: y}}]", "a.prompt", "keep one of them"),
        ("id: a, type: generate, prompt: '{{ row.txt }}'", "a.prompt", "did you mean 'text'?"),
        ("id: a, type: generate, prompt: '{{ text }}'", "a.prompt", "is called row.text"),
        ("id: a, type: generate, prompt: '{{ row.text'", "a.prompt", "line 1"),
        ("id: a, type: generate, prompt: '{{ rows[0] }}'", "a.prompt", "unknown name 'rows'"),
        ("id: a, type: generate, prompt: '{{ params.x }}'", "a.prompt", "no field 'x'"),
        ("id: a, type: generate, prompt: '{{ row.n.x }}'", "a.prompt", "row.n is a number"),
        (
            "id: a, type: generate, messages: [{role: user, content: '{{ row.no }}'}]",
            *("a.messages[0].content", "no column 'no'"),
        ),
        (f"{ASK}, model: '{{{{ row.text }}}}'", "a.model", "must be known before the run"),
        (f"{ASK}, model: '{{{{ row.nope }}}}'", "a.model", "no column 'nope'"),
        (f"{ASK}, model: 'x/{{{{ row.n }}}}'", "a.model", "must be known before the run"),
        (f"{ASK}, model: ' '", "a.model", "must be the name of a model"),
        (f"{ASK}, model: '{'x' * 300}'", "a.model", "can be no model's name"),
        # answers
        (f"{ASK}, n: 0", "a.n", "from 1 to 128, got 0"),
        (f"{ASK}, n: 1000000000", "a.n", "from 1 to 128, got 1000000000"),
        (f"{ASK}, n: '{{{{ row.n }}}}'", "a.n", "must be known before the run"),
        (f"{ASK}, n: '{{{{ 1.5 * 2 }}}}'", "a.n", "a whole number from 1 to 128, got 3.0"),
        (f"{ASK}, choices: [a, b], regex: x", "a.regex", "an answer can have one form"),
        (f"{ASK}, choices: []", "a.choices", "at least one text"),
        (f"{ASK}, choices: [a, a]", "a.choices", "one of them is there twice"),
        (f"{ASK}, regex: ''", "a.regex", "a non-empty string as regex"),
        (f"{ASK}, schema_ref: ordr", "a.schema_ref", "no schema 'ordr'; did you mean 'order'?"),
        (f"{ASK}, schema: {{a: itn}}", "a.schema", "a: 'itn' is no type; known: str, int"),
        (f"{ASK}, until: 'true'", "a.until", "there is one sample only"),
        (f"{ASK}, n: 3, until: row.b", "a.until", "no column 'b'"),
        (f"{ASK}, n: 3, until: row.a", "a.until", "must give true or false, but gives a text"),
        (f"{ASK}, n: 3, wave: 2", "a.wave", "it goes with `until`"),
        (f"{ASK}, default: x", "a.default", "used with on_error: default only"),
        (f"{ASK}, sampling: {{n: 3}}", "a.sampling.n", "said by the step's own `n`"),
        (f"{ASK}, sampling: {{max_tokens: 0}}", "a.sampling.max_tokens", "at least 1, got 0"),
        (f"{ASK}, sampling: {{max_tokens: 1000000000000}}", "a.sampling.max_tokens", "at most"),
        (f"{ASK}, sampling: {{temprature: 1}}", "a.sampling.temprature", "'temperature'?"),
        (f"{ASK}, sampling: {{logprobs: 1}}", "a.sampling.logprobs", "would not be landed"),
        (
            f"{ASK}, regex: x, sampling: {{structured_outputs: {{regex: y}}}}",
            *("a.sampling.structured_outputs", "gives another form"),
        ),
        (
            f"{ASK}, sampling: {{top_k: '{{{{ params.k }}}}'}}",
            *("a.sampling.top_k", "must be known before the run"),
        ),
        # judges
        ("id: a, type: judge, mode: pairwise, prompt: x", "a.candidates", "two are compared"),
        (
            "id: a, type: judge, mode: pairwise, candidates: [row.text, row.txt]",
            *("a.candidates[1]", "did you mean 'text'?"),
        ),
        (
            "id: a, type: judge, mode: pairwise, candidates: [row.n, row.n], schema: {w: int}",
            *("a.schema", "winner: enum[first,second,tie]"),
        ),
        (
            "id: a, type: judge, prompt: x, candidates: [row.n, row.n]",
            *("a.candidates", "in mode pairwise only"),
        ),
        (
            "id: a, type: judge, mode: reward, prompt: x, schema: {w: int}",
            *("a.schema", "a reward is a number"),
        ),
        ("id: a, type: embed, text: '{{ row.txt }}'", "a.text", "did you mean 'text'?"),
        # rows
        ("id: a, type: map", "a.set", "either fields to set, or an op"),
        ("id: a, type: map, op: x, set: {y: '1'}", "a.set", "either fields to set, or an op"),
        ("id: a, type: map, set: {y: row.n + 'a'}", "a.set.y", "+ does not work on a number"),
        ("id: a, type: filter, where: row.text", "a.where", "must give true or false"),
        ("id: a, type: filter, where: row.n > ", "a.where", "a value is expected"),
        ("id: a, type: expand", "a.n", "exactly one of n, explode, split and cross, got none"),
        ("id: a, type: expand, n: 2, explode: data", "a.n", "got n and explode"),
        ("id: a, type: expand, n: 1001", "a.n", "from 1 to 1000 (`max` allows more)"),
        ("id: a, type: expand, n: '{{ row.text }}'", "a.n", "must give a whole number"),
        ("id: a, type: expand, explode: row.text", "a.explode", "must give a list"),
        ("id: a, type: expand, explode: txt", "a.explode", "did you mean 'text'?"),
        ("id: a, type: expand, split: {field: n}", "a.split.field", "must give a text"),
        (
            "id: a, type: expand, split: {field: text, size: 5, overlap: 5}",
            *("a.split.overlap", "must be less than size 5"),
        ),
        (
            "id: a, type: expand, split: {field: text, by: separator}",
            *("a.split.separator", "goes with by: separator"),
        ),
        ("id: a, type: expand, cross: {}", "a.cross", "at least one list"),
        ("id: a, type: expand, cross: {k: []}", "a.cross.k", "a list of one or more items"),
        ("id: a, type: expand, cross: {k: row.text}", "a.cross.k", "must give a list"),
        (
            "id: a, type: expand, max: 5, cross: {k: [1, 2, 3], j: [1, 2]}",
            *("a.cross", "it makes 6 rows of one; `max` allows 5"),
        ),
        ("id: a, type: expand, as: b, cross: {k: [1]}", "a.as", "the names that it gives them"),
        ("id: a, type: dedupe, key: text", "a.key", "write {{ row.text }}"),
        ("id: a, type: dedupe, key: '{{ row.txt }}'", "a.key", "did you mean 'text'?"),
        ("id: a, type: sample", "a.fraction", "either a fraction or a size"),
        # groups
        ("id: a, type: reduce, agg: {n: count()}", "a.group_by", "no step before it makes"),
        ("id: a, type: reduce, group_by: [m], agg: {n: count()}", "a.group_by", "no column 'm'"),
        ("id: a, type: reduce, group_by: [n, n], agg: {c: count()}", "a.group_by", "there twice"),
        (
            "id: a, type: reduce, group_by: [data.even], agg: {c: count()}",
            *("a.group_by", "{id: key, type: map, set: {value: row.data.even}}, and group by key"),
        ),
        ("id: a, type: reduce, group_by: [n]", "a.prompt", "exactly one of prompt, agg and pick"),
        ("id: a, type: reduce, group_by: [n], agg: {}", "a.agg", "at least one field"),
        ("id: a, type: reduce, group_by: [n], agg: {c: row.n}", "a.agg.c", "which row?"),
        ("id: a, type: reduce, group_by: [n], agg: {c: sum(row.m)}", "a.agg.c", "no column 'm'"),
        ("id: a, type: reduce, group_by: [n], pick: {}", "a.pick", "exactly one of max, min"),
        (
            "id: a, type: reduce, group_by: [n], pick: {first: row.x}",
            *("a.pick.first", "must give true or false"),
        ),
        (
            "id: a, type: reduce, group_by: [n], pick: {max: row.x}, as: b",
            *("a.as", "a picked row stays what it was"),
        ),
        (
            "id: a, type: reduce, group_by: [n], agg: {c: count()}, fold: {max_rows: 3}",
            *("a.fold", "it goes with a prompt"),
        ),
        (
            "id: a, type: reduce, group_by: [n], order_by: data | len, prompt: '{{ row.text }}'",
            *("a.prompt", "row has no column 'text'; known: n"),
        ),
        (
            "id: a, type: reduce, group_by: [n], prompt: '{{ rows[0].txt }}'",
            *("a.prompt", "did you mean 'text'?"),
        ),
        (
            "id: a, type: reduce, group_by: [n], prompt: '{% for r in rows %}{{r.y}}{% endfor %}'",
            *("a.prompt", "no field 'y'"),
        ),
        (
            "id: a, type: reduce, group_by: [n], prompt: merge, fold: {max_rows: 3}",
            *("a.fold", "the prompt reads none"),
        ),
        (
            "id: a, type: reduce, group_by: [n], prompt: '{{ rows[0].n }}', fold: {max_rows: 3}",
            *("a.fold", "the prompt reads none"),
        ),
        (
            "id: a, type: reduce, group_by: [n], prompt: '{{ rows[0].text }}', fold: {}",
            *("a.fold", "must say max_rows, or max_tokens"),
        ),
        # joins
        (f"{ASK}\nid: j, type: join, from: [rows, a], 'on': m", "j.on", "have no column 'm'"),
        (f"{ASK}\nid: j, type: join, from: [rows, a], 'on': {{}}", "j.on", "at least one column"),
        (
            f"{ASK}\nid: j, type: join, from: [rows, a], 'on': {{text: n}}",
            *("j.on", "a text and a number, which are never equal"),
        ),
    ],
)
def test_what_is_wrong_with_a_step(steps: str, where: str, message: str) -> None:
    schemas = {"order": {"total": "int"}}
    found = problems_of(steps, schemas=schemas, params={"k": None})
    assert any(message in each for each in found.get(f"steps.{where}", ())), found


def test_everything_is_told_at_once() -> None:
    found = problems_of(
        """
        id: a, type: generate, prompt: "{{ row.nope }}", n: 999, sampling: {top_p: 7, min_p: 7}
        id: b, type: filter, where: row.a.x
        id: c, type: map, set: {y: row.zzz, z: 1 +}
        """,
        output={"select": ["a", "q"], "sink": {"uri": "ftp://x"}},
        params={"k": 1},
        schemas={"bad": {"a": "itn"}},
    )
    assert found.keys() == {
        *("schemas.bad", "steps.a.n", "steps.a.prompt"),
        *("steps.a.sampling.top_p", "steps.a.sampling.min_p", "steps.b.where"),
        *("steps.c.set.y", "steps.c.set.z", "output.sink.uri", "output.select"),
    }


def test_a_column_of_a_later_step_is_known_to_come_too_late() -> None:
    later = """
        id: a, type: generate, prompt: "{{ row.b }}"
        id: b, type: generate, prompt: "{{ row.a }}"
        id: c, type: filter, from: a, where: row.b__meta.status == 'failed'
        """
    message = "is what step 'b' adds, which does not come before"
    assert message in problems_of(later)["steps.a.prompt"][0]
    alone = problems_alone(later)
    assert alone.keys() == {"steps.a.prompt", "steps.c.where"}
    assert message in alone["steps.c.where"]


def test_a_typo_in_an_answers_field_is_found_before_it_is_asked_for() -> None:
    steps = """
        id: judge, type: judge, prompt: x, schema: {score: int, tags: "list[str]"}
        id: keep, type: filter, where: row.judge.scoer >= 7
        id: say, type: generate, prompt: "{{ row.judge.tgas | join }} {{ row.judge.tags[0].x }}"
        """
    found = problems_of(steps)
    assert "did you mean 'score'?" in found["steps.keep.where"][0]
    assert "did you mean 'tags'?" in " ".join(found["steps.say.prompt"])
    assert "is a text; it has no field 'x'" in " ".join(found["steps.say.prompt"])


@pytest.mark.parametrize(
    ("steps", "is_wide"),
    [
        ("id: a, type: expand, n: 1000\nid: b, type: expand, n: 1000", False),
        ("id: a, type: expand, n: 1000\nid: b, type: generate, prompt: x, n: 128", False),
        (
            "id: a, type: expand, explode: data\nid: b, type: expand, explode: data\n"
            "id: c, type: generate, n: 2, prompt: x",
            True,
        ),
        ("id: a, type: expand, explode: data, max: 100000\nid: c, type: expand, n: 11", True),
        (
            "id: a, type: expand, n: 1000\nid: b, type: reduce, agg: {n: count()}\n"
            "id: c, type: expand, n: 1000\nid: d, type: expand, n: 1000",
            False,
        ),
    ],
)
def test_how_many_rows_one_may_become(steps: str, is_wide: bool) -> None:
    found = problems_of(steps)
    assert bool(found) == is_wide
    if is_wide:
        assert list(found) == ["steps.c"]
        assert "rows here, more than 1000000; lower `n`, or `max`" in found["steps.c"][0]


@pytest.mark.parametrize(
    ("output", "where", "message"),
    [
        ({"from": "b"}, "output.from", "no step 'b'"),
        ({"select": ["txt"]}, "output.select", "did you mean 'text'?"),
        ({"select": ["a.x"]}, "output.select", "row.a is a text; it has no field 'x'"),
        ({"select": ["text", "text"]}, "output.select", "two of them would land as 'text'"),
        ({"select": []}, "output.select", "at least one column"),
        ({"sink": {"uri": "file:///etc"}}, "output.sink.uri", "to a directory or to s3://"),
        ({"sink": {"uri": "s3://"}}, "output.sink.uri", "to a directory or to s3://"),
        ({"sink": {"uri": " "}}, "output.sink.uri", "must name a directory"),
    ],
)
def test_what_an_output_may_not_be(output: dict[str, Any], where: str, message: str) -> None:
    assert message in problems_of(ASK, output=output)[where][0]


def test_the_message_of_many_problems_names_the_first() -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        plan_of("\n".join(f"id: s{index}, type: filter, where: row.no" for index in range(9)))
    assert str(caught.value).startswith("steps.s0.where: row has no column 'no'")
    assert str(caught.value).endswith("; and 4 more")
    assert len(caught.value.problems) == 9


def test_tokens_are_those_of_a_model() -> None:
    steps = "id: a, type: expand, split: {field: text, by: tokens}"
    assert problems_of(steps) == {}
    assert "name one in `defaults`" in problems_of(steps, defaults={})["steps.a.split.by"][0]
    asking = f"{steps}\nid: b, type: generate, model: m, prompt: x"
    assert problems_of(asking, defaults={}) == {}


def test_no_more_problems_are_looked_for_than_anybody_reads() -> None:
    fields = {f"f{index}": f"row.column_{index}x" for index in range(2_000)}
    step = {"id": "a", "type": "map", "set": fields}
    workflow = read_workflow({"name": "w", "inputs": {"rows": {}}, "steps": [step]})
    columns: dict[str, ColumnKind] = {f"column_{index}": "string" for index in range(3_000)}
    began_s = time.process_time()
    with pytest.raises(InvalidWorkflow) as caught:
        check(workflow, {}, {"rows": columns})
    assert len(caught.value.problems) == MAX_PROBLEMS
    assert time.process_time() - began_s < 20  # without an end, minutes


def test_what_is_wrong_with_the_sampling_of_all_is_told_once() -> None:
    sampling = {"top_p": 7, "temprature": 1, "logprobs": 2, "stop": "{{ params.nope }}"}
    steps = f"{ASK}\nid: b, type: generate, prompt: y, sampling: {{top_k: -9}}"
    found = problems_of(steps, defaults={"model": "m", "sampling": sampling})
    assert {where: len(messages) for where, messages in found.items()} == {
        **{f"defaults.sampling.{name}": 1 for name in sampling},
        "steps.b.sampling.top_k": 1,
    }


def test_a_steps_own_form_takes_the_place_of_that_of_all() -> None:
    sampling = {"structured_outputs": {"regex": "x+"}}
    defaults = {"model": "m", "sampling": sampling}
    plan = plan_of(f"{ASK}\nid: b, type: generate, prompt: y, choices: [u, v]", defaults=defaults)
    assert plan.step("a").sampling == sampling
    assert plan.step("b").sampling == {}
