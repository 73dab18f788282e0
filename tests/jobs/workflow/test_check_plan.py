import pytest

from penstock.jobs.workflow.plan import Plan
from penstock.jobs.workflow.spec import Expand, Generate

from .checked import COLUMNS, plan_of

GIVEN = list(COLUMNS)


def shapes(plan: Plan) -> list[tuple[str, str, tuple[str, ...], int]]:
    return [(step.id, step.kind, step.sources, step.region) for step in plan.steps]


def test_steps_follow_each_other_unless_they_say_otherwise() -> None:
    plan = plan_of("""
        id: a, type: generate, prompt: "{{ row.text }}"
        id: b, type: filter, where: row.n > 3
        id: c, type: map, from: rows, set: {y: row.n + 1}
        id: d, type: judge, from: b, prompt: "{{ row.a }}"
        """)
    assert shapes(plan) == [
        ("a", "ask", ("inputs.rows",), 0),
        ("b", "local", ("a",), 0),
        ("c", "local", ("inputs.rows",), 0),
        ("d", "ask", ("b",), 0),
    ]
    assert plan.output_step == "d"
    assert list(plan.step("c").columns) == [*GIVEN, "c"]
    assert list(plan.step("d").columns) == [*GIVEN, "a", "a__meta", "d", "d__meta"]
    assert plan.step("d").models == ("m",)


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("type: generate, prompt: x", {"s": "string", "s__meta": "json"}),
        ("type: generate, prompt: x, schema: {a: int}", {"s": "json", "s__meta": "json"}),
        ("type: generate, prompt: x, choices: [a, b], as: t", {"t": "string", "t__meta": "json"}),
        ("type: generate, prompt: x, schema: {type: integer}", {"s": "int64", "s__meta": "json"}),
        ("type: judge, prompt: x", {"s": "json", "s__meta": "json"}),
        ("type: judge, mode: reward, prompt: x", {"s": "json", "s__meta": "json"}),
        ("type: embed, text: '{{ row.text }}'", {"s": "vector", "s__meta": "json"}),
        ("type: map, set: {y: row.n}", {"s": "json"}),
        ("type: map, op: tidy", {"s": "json"}),
        ("type: filter, where: row.yes", {}),
        ("type: expand, n: 3", {"s": "json"}),
        ("type: expand, explode: data", {"s": "json"}),
        ("type: expand, split: {field: text}", {"s": "json"}),
        ("type: expand, cross: {t: [1, 2], u: [a]}", {"t": "int64", "u": "string"}),
        ("type: expand, cross: {t: [1, 2.5], u: [a, 1]}", {"t": "float64", "u": "json"}),
        ("type: dedupe, key: '{{ row.text }}'", {}),
        ("type: sample, fraction: 0.5", {}),
        ("type: limit, size: 3", {}),
    ],
)
def test_the_columns_that_a_step_adds(line: str, columns: dict[str, str]) -> None:
    plan = plan_of(f"id: s, {line}")
    assert plan.step("s").columns == {**COLUMNS, **columns}
    assert plan.output_columns == {**COLUMNS, **columns}


def test_a_default_of_another_kind_makes_a_column_json() -> None:
    same = "id: s, type: generate, prompt: x, on_error: default, default: none"
    other = "id: s, type: generate, prompt: x, on_error: default, default: 3"
    assert plan_of(same).output_columns["s"] == "string"
    assert plan_of(other).output_columns["s"] == "json"


def test_what_needs_all_rows_waits_and_opens_a_region() -> None:
    plan = plan_of("""
        id: a, type: sample, fraction: 0.5
        id: b, type: sample, size: 5
        id: c, type: dedupe, key: "{{ row.text }}"
        id: d, type: limit, size: 5
        id: e, type: map, set: {y: row.n}
        id: f, type: reduce, group_by: [n], agg: {count: count()}
        """)
    assert [(step.kind, step.region) for step in plan.steps] == [
        *(("local", 0), ("gather", 1), ("gather", 2)),
        *(("gather", 3), ("local", 3), ("gather", 4)),
    ]
    assert plan.step("f").columns == {"n": "int64", "f": "json"}


def test_children_come_back_to_their_parent_without_waiting_for_others() -> None:
    plan = plan_of("""
        id: part, type: expand, split: {field: text}, max: 8
        id: cand, type: generate, n: 4, prompt: "{{ row.part.text }}"
        id: keep, type: filter, where: len(row.cand) > 3
        id: best, type: reduce, pick: {max: len(row.cand)}
        id: whole, type: reduce, from: keep, agg: {n: count(), all: list(row.cand)}
        id: again, type: reduce, agg: {n: sum(row.whole.n)}
        """)
    assert {step.kind for step in plan.steps} == {"local", "ask"}
    assert {step.region for step in plan.steps} == {0}
    assert "cand" in plan.step("best").columns  # a picked row stays whole
    assert list(plan.step("whole").columns) == [*GIVEN, "part", "whole"]  # those of its parent
    assert list(plan.step("again").columns) == [*GIVEN, "again"]


def test_behind_a_gather_children_may_lie_in_several_shards() -> None:
    plan = plan_of("""
        id: cand, type: generate, n: 4, prompt: "{{ row.text }}"
        id: once, type: dedupe, key: "{{ row.cand }}"
        id: back, type: reduce, agg: {n: count()}
        """)
    assert (plan.step("back").kind, plan.step("back").region) == ("gather", 2)
    assert list(plan.step("back").columns) == [*GIVEN, "back"]


def test_a_reduce_with_a_prompt_has_a_step_before_it_that_brings_groups() -> None:
    plan = plan_of("""
        id: part, type: expand, split: {field: text}
        id: sum, type: generate, prompt: "{{ row.part.text }}"
        id: all, type: reduce, prompt: "{% for r in rows %}{{ r.sum }}{% endfor %} {{ row.text }}"
        id: by_n, type: reduce, from: sum, group_by: [n], prompt: "{{ row.n }} {{ rows[0].sum }}"
        """)
    assert shapes(plan)[2:] == [
        ("all__groups", "local", ("sum",), 0),
        ("all", "ask", ("all__groups",), 0),
        ("by_n__groups", "gather", ("sum",), 1),
        ("by_n", "ask", ("by_n__groups",), 1),
    ]
    groups = plan.step("all__groups")
    assert groups.is_internal
    assert list(groups.columns) == [*GIVEN, "__rows"]
    assert list(plan.step("all").columns) == [*GIVEN, "all", "all__meta"]
    assert list(plan.step("by_n").columns) == ["n", "by_n", "by_n__meta"]
    assert not plan.step("all").is_internal


def test_joins_and_concats_wait_only_for_rows_of_another_region() -> None:
    plan = plan_of("""
        id: a, type: generate, prompt: x
        id: b, type: generate, from: rows, prompt: y
        id: both, type: join, from: [a, b]
        id: by_n, type: join, from: [a, b], 'on': n
        id: known, type: join, from: [a, b], 'on': {n: n}, how: semi
        id: near, type: concat, from: [a, b]
        id: few, type: limit, size: 3
        id: far, type: concat, from: [a, few]
        id: late, type: join, from: [a, few]
        """)
    kinds = {step.id: (step.kind, step.region) for step in plan.steps}
    assert kinds["both"] == ("local", 0)
    assert kinds["by_n"][0] == kinds["known"][0] == "gather"
    assert kinds["near"] == ("local", 0)
    assert kinds["far"][0] == kinds["late"][0] == "gather"
    assert len({kinds[name][1] for name in ("by_n", "known", "few", "far", "late")}) == 5
    assert list(plan.step("both").columns) == [*GIVEN, "a", "a__meta", "both"]
    assert list(plan.step("known").columns) == [*GIVEN, "a", "a__meta"]
    near = plan.step("near").columns
    assert list(near) == [*GIVEN, "a", "a__meta", "b", "b__meta"]


def test_rows_of_several_steps_are_children_of_those() -> None:
    plan = plan_of("""
        id: a, type: filter, where: row.yes
        id: b, type: filter, from: rows, where: not row.yes
        id: both, type: concat, from: [a, b]
        id: back, type: reduce, agg: {n: count()}
        """)
    assert list(plan.step("back").columns) == [*GIVEN, "back"]
    assert plan.step("back").kind == "local"


def test_what_is_known_before_the_run_is_written_out() -> None:
    plan = plan_of(
        """
        id: copy, type: expand, n: "{{ params.n + 1 }}", max: 10
        id: cell, type: expand, cross: {model: "{{ params.models }}", t: [0.0, 1.0]}
        id: ask, type: generate, n: params.n, prompt: x, model: "{{ row.model }}"
        id: fix, type: generate, prompt: x, model: "{{ params.models[0] }}"
        id: two, type: generate, prompt: x, model: "{{ 'big' if row.n > 3 else 'small' }}"
        id: per, type: generate, prompt: x, model: "org/{{ params.models[1] }}"
        id: own, type: generate, prompt: x, sampling: {temperature: "{{ params.t }}", top_k: 5}
        """,
        {"n": 3},
        params={"n": 2, "models": ["one", "two"], "t": 0.25},
        defaults={"model": "m", "sampling": {"max_tokens": 9, "top_k": 1}},
    )
    copy, cell, ask = (plan.step(name).spec for name in ("copy", "cell", "ask"))
    assert isinstance(copy, Expand) and copy.n == 4
    assert isinstance(cell, Expand) and cell.cross == {"model": ["one", "two"], "t": [0.0, 1.0]}
    assert isinstance(ask, Generate) and ask.n == 3
    assert [plan.step(name).max_children for name in ("copy", "cell", "ask")] == [4, 4, 3]
    assert plan.step("ask").models == ("one", "two")
    assert plan.step("fix").models == ("one",)
    assert plan.step("two").models == ("big", "small")
    assert plan.step("per").models == ("org/two",)
    assert plan.step("own").sampling == {"max_tokens": 9, "top_k": 5, "temperature": 0.25}


def test_answers_may_name_models_where_their_form_says_which() -> None:
    plan = plan_of("""
        id: route, type: generate, prompt: "{{ row.text }}", choices: [small, big]
        id: by_choice, type: generate, prompt: x, model: "{{ row.route }}"
        id: judge, type: judge, prompt: x, schema: {to: "enum[a,b]"}
        id: by_field, type: generate, prompt: x, model: "{{ row.judge.to }}"
        """)
    assert plan.step("by_choice").models == ("small", "big")
    assert plan.step("by_field").models == ("a", "b")


def test_the_mere_name_of_a_column_stands_for_it() -> None:
    plan = plan_of("""
        id: a, type: expand, split: {field: text}
        id: b, type: expand, explode: data, max: 5
        id: c, type: reduce, order_by: n, agg: {n: count()}
        """)
    a, b = plan.step("a").spec, plan.step("b").spec
    assert isinstance(a, Expand) and a.split is not None and a.split.field == "row.text"
    assert isinstance(b, Expand) and b.explode == "row.data"


def test_schemas_are_written_out() -> None:
    plan = plan_of(
        """
        id: a, type: generate, prompt: x, schema_ref: order
        id: b, type: judge, prompt: x
        """,
        schemas={"order": {"total": "float", "note": "str?"}},
    )
    schema = plan.step("a").schema
    assert schema is not None
    assert schema["properties"]["total"] == {"type": "number"}
    assert schema["required"] == ["total", "note"]
    judged = plan.step("b").schema
    assert judged is not None and list(judged["properties"]) == ["score", "reason"]


@pytest.mark.parametrize(
    ("steps", "shard_rows"),
    [
        ("id: a, type: generate, prompt: x", 256),
        ("id: a, type: generate, prompt: x, n: 64", 256),
        ("id: a, type: expand, explode: data", 32),
        ("id: a, type: expand, explode: data, max: 100000", 1),
        ("id: a, type: expand, explode: data, max: 128\nid: b, type: expand, n: 4", 64),
        ("id: a, type: limit, size: 9\nid: b, type: expand, explode: data", 32),
        (
            "id: a, type: expand, n: 256\nid: b, type: limit, size: 9\nid: c, type: expand, n: 32",
            128,
        ),
    ],
)
def test_the_wider_a_shard_becomes_the_fewer_rows_it_starts_with(
    steps: str, shard_rows: int
) -> None:
    assert plan_of(steps).shard_rows == shard_rows


def test_the_output_names_its_step_and_its_columns() -> None:
    plan = plan_of(
        """
        id: a, type: judge, prompt: x
        id: b, type: map, set: {deep: row.data}
        id: c, type: limit, size: 1
        """,
        output={"from": "b", "select": ["text", "a.score", "b.deep", "b.deep.more"]},
    )
    assert plan.output_step == "b"
    assert plan.output_columns == {
        "text": "string",
        "a_score": "int64",
        "b_deep": "json",
        "b_deep_more": "json",
    }


def test_sampling_is_what_a_jobs_is() -> None:
    sampling = "{min_tokens: 20, stop: [a], logit_bias: {'5': -1}, repetition_detection: {}}"
    line = f"id: a, type: generate, prompt: x, sampling: {sampling}"
    assert plan_of(line).step("a").sampling == {
        "min_tokens": 20,
        "stop": ["a"],
        "logit_bias": {"5": -1},
        "repetition_detection": {},
    }


def test_the_default_model_may_be_a_param() -> None:
    plan = plan_of(
        """
        id: a, type: expand, split: {field: text, by: tokens}
        id: b, type: generate, prompt: x
        """,
        params={"model": "one"},
        defaults={"model": "{{ params.model }}"},
    )
    assert plan.defaults.model == "one"
    assert plan.step("b").models == ("one",)
