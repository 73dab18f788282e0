"""What steps make of one shard: each row's fault stays its own, and policies decide."""

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.jobs.workflow.computing import local
from penstock.jobs.workflow.computing.grouping import MAX_LISTED_ROWS
from penstock.jobs.workflow.plan import GROUPS, ROWS
from penstock.jobs.workflow.row import Applied, Row
from penstock.jobs.workflow.tools import InvalidOperation, MissingTool, Tools, read_operations

from .planned import applied, codes, column, plan_of, planned, rows_of, step_of

NUMBERS = rows_of({"x": 1}, {"x": "two"}, {"x": None}, {"x": 4})
BAD_X = {"1": "expression_error", "2": "expression_error"}


def shout(values: Mapping[str, Any]) -> Any:
    """An operation, as an operator registers it."""
    return {"loud": values["x"].upper(), "pair": (1, 2)}


def test_map_computes_every_field_and_nulls_what_fails() -> None:
    found = applied(step_of(type="map", set={"y": "row.x + 1", "z": "row.x"}), NUMBERS)
    assert column(found, "s") == {
        "0": {"y": 2, "z": 1},
        "1": None,
        "2": None,
        "3": {"y": 5, "z": 4},
    }
    assert codes(found.faults) == BAD_X
    assert found.rows[0].values["x"] == 1


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"on_error": "drop"}, {"0": {"y": 2}, "3": {"y": 5}}),
        ({"on_error": "fail"}, {"0": {"y": 2}, "3": {"y": 5}}),
        ({"on_error": "default", "default": 7}, {"0": {"y": 2}, "1": 7, "2": 7, "3": {"y": 5}}),
    ],
)
def test_policies_decide_what_becomes_of_a_fault(
    policy: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = applied(step_of(type="map", set={"y": "row.x + 1"}, **policy), NUMBERS)
    assert column(found, "s") == expected
    assert codes(found.faults) == BAD_X
    assert found.num_dropped == 0  # on purpose none was


def test_a_column_may_have_another_name_and_params_are_there() -> None:
    spec = step_of(type="map", **{"as": "out"}, set={"y": "row.x * params.k"})
    found = applied(spec, NUMBERS[:1], params={"k": 3})
    assert column(found, "out") == {"0": {"y": 3}}


def test_an_operation_is_one_that_the_operator_has_registered() -> None:
    tools = Tools(operations={"shout": shout})
    found = applied(step_of(type="map", op="shout"), NUMBERS, tools=tools)
    assert column(found, "s")["1"] == {"loud": "TWO", "pair": [1, 2]}
    assert codes(found.faults) == dict.fromkeys(["0", "2", "3"], "operation_error")
    assert "AttributeError" in found.faults[0].error.message
    with pytest.raises(MissingTool, match=r"whisper.*shout"):
        applied(step_of(type="map", op="whisper"), NUMBERS, tools=tools)


@pytest.mark.parametrize("returned", [object(), {1, 2}, b"bytes"])
def test_an_operation_returns_plain_data(returned: Any) -> None:
    tools = Tools(operations={"odd": lambda _: returned})
    found = applied(step_of(type="map", op="odd"), NUMBERS[:1], tools=tools)
    assert codes(found.faults) == {"0": "operation_error"}


def test_operations_are_imported_by_name() -> None:
    operations = read_operations(["dumps=json:dumps", "root=math:sqrt"])
    assert operations["dumps"]({"a": 1}) == '{"a": 1}'
    for entry in ("json:dumps", "x=json", "x=json:nothing", "x=no_such_module:f", "x=json:decoder"):
        with pytest.raises(InvalidOperation):
            read_operations([entry])


def test_filter_lets_pass_what_holds() -> None:
    found = applied(step_of(type="filter", where="row.x > 1"), NUMBERS[2:])
    assert [row.row_id for row in found.rows] == ["3"]  # null is not more than anything
    assert (found.num_dropped, found.faults) == (1, [])


def test_what_is_neither_true_nor_false_is_a_fault_of_the_row() -> None:
    where = {"type": "filter", "where": "row.x"}
    rows = rows_of({"x": True}, {"x": "yes"}, {"x": None}, {"x": False})
    found = applied(step_of(**where), rows)
    assert [row.row_id for row in found.rows] == ["0", "1"]
    assert codes(found.faults) == {"1": "expression_error"}
    for policy in ({"on_error": "drop"}, {"on_error": "default", "default": False}):
        found = applied(step_of(**where, **policy), rows)
        assert [row.row_id for row in found.rows] == ["0"]


def test_expand_into_copies() -> None:
    found = applied(step_of(type="expand", n="{{ params.n }}"), NUMBERS[:2], params={"n": 2})
    assert [row.row_id for row in found.rows] == ["0/s#0", "0/s#1", "1/s#0", "1/s#1"]
    assert found.rows[3].values == {"x": "two", "s": {"index": 1}}
    assert found.rows[3].parent_id == "1"


def test_a_child_of_a_group_has_one_parent() -> None:
    group = Row("report#0", {"x": 1}, parents=("0", "1"))
    [child] = applied(step_of(type="expand", n=1), [group]).rows
    assert (child.parent_id, child.parents) == ("report#0", ())


def test_explode_makes_a_row_of_each_item() -> None:
    rows = rows_of({"x": ["a", {"b": 1}]}, {"x": []}, {"x": "text"}, {"x": None})
    found = applied(step_of(type="expand", explode="row.x"), rows)
    assert column(found, "s") == {
        "0/s#0": {"value": "a", "index": 0},
        "0/s#1": {"value": {"b": 1}, "index": 1},
        "2/s#0": None,
        "3/s#0": None,
    }
    assert codes(found.faults) == {"2": "expression_error", "3": "expression_error"}
    assert found.num_dropped == 1  # the empty list


def test_cross_makes_a_row_of_each_combination() -> None:
    spec = step_of(type="expand", cross={"model": "{{ params.models }}", "t": [0, 1]})
    found = applied(spec, NUMBERS[:1], params={"models": ["a", "b"]})
    made = [(row.row_id, row.values["model"], row.values["t"]) for row in found.rows]
    assert made == [("0/s#0", "a", 0), ("0/s#1", "a", 1), ("0/s#2", "b", 0), ("0/s#3", "b", 1)]
    assert "s" not in found.rows[0].values


def test_too_many_children_are_a_fault_of_their_row_alone() -> None:
    rows = rows_of({"x": list(range(4))}, {"x": list(range(3))})
    found = applied(step_of(type="expand", explode="row.x", max=3, on_error="drop"), rows)
    assert len(found.rows) == 3
    assert codes(found.faults) == {"0": "too_many_children"}
    assert "`max`" in found.faults[0].error.message


def test_a_huge_cross_is_not_built_to_be_refused() -> None:
    lists = {name: list(range(1_000)) for name in "abcdefgh"}
    found = applied(step_of(type="expand", cross=lists), NUMBERS[:1])
    assert codes(found.faults) == {"0": "too_many_children"}
    assert found.rows[0].values["h"] is None


def test_split_says_which_piece_of_how_many() -> None:
    rows = rows_of({"t": "abcdefg"}, {"t": ""}, {"t": 5})
    split = {"field": "row.t", "size": 3, "overlap": 1}
    found = applied(step_of(type="expand", split=split), rows)
    assert column(found, "s") == {
        "0/s#0": {"text": "abc", "index": 0, "count": 3},
        "0/s#1": {"text": "cde", "index": 1, "count": 3},
        "0/s#2": {"text": "efg", "index": 2, "count": 3},
        "2/s#0": None,
    }
    assert codes(found.faults) == {"2": "expression_error"}


def test_split_by_tokens_asks_a_tokenizer() -> None:
    def ends(text: str, model: str) -> list[int]:
        assert model == "m"
        return [*range(2, len(text), 2), len(text)]

    spec = step_of(type="expand", split={"field": "row.t", "by": "tokens", "size": 2})
    found = applied(spec, rows_of({"t": "abcdefg"}), tools=Tools(ends))
    assert [row.values["s"]["text"] for row in found.rows] == ["abcd", "efg"]
    with pytest.raises(MissingTool, match="tokenizer"):
        applied(spec, rows_of({"t": "abc"}))


def test_a_sample_is_the_same_in_whatever_shards() -> None:
    rows = rows_of(*({"x": index} for index in range(2_000)))
    spec = step_of(type="sample", fraction=0.25, seed=3)
    whole = applied(spec, rows)
    parts = [applied(spec, rows[first : first + 7]) for first in range(0, 2_000, 7)]
    assert whole.rows == [row for part in parts for row in part.rows]
    assert 400 < len(whole.rows) < 600
    assert whole.num_dropped == 2_000 - len(whole.rows)
    other = applied(step_of(type="sample", fraction=0.25, seed=4), rows)
    assert other.rows != whole.rows
    assert applied(step_of(type="sample", fraction=1.0), rows).rows == rows


def candidates(*scores: Any, parent: str = "7") -> list[Row]:
    return [
        Row(f"{parent}/c#{index}", {"q": "why", "c": f"text {index}", "x": score})
        for index, score in enumerate(scores)
    ]


def test_reduce_by_parent_computes_fields_of_each_group() -> None:
    agg = {"n": "count()", "mean": "mean(row.x)", "all": "list(row.c)"}
    rows = [*candidates(1, 2, None), *candidates(5, parent="8")]
    found = applied(step_of(type="reduce", agg=agg), rows, columns=["q", "s"])
    assert [(row.row_id, row.values) for row in found.rows] == [
        ("7", {"q": "why", "s": {"n": 3, "mean": 1.5, "all": ["text 0", "text 1", "text 2"]}}),
        ("8", {"q": "why", "s": {"n": 1, "mean": 5.0, "all": ["text 0"]}}),
    ]


def test_order_by_puts_a_group_in_order() -> None:
    spec = step_of(type="reduce", order_by="row.x", agg={"l": "list(row.x)", "f": "first(row.c)"})
    found = applied(spec, candidates(3, None, "b", 1.5, "a", True), columns=["s"])
    assert column(found, "s") == {"7": {"l": [True, 1.5, 3, "a", "b", None], "f": "text 5"}}


def test_a_row_that_cannot_be_computed_counts_as_null() -> None:
    spec = step_of(type="reduce", agg={"sum": "sum(row.x + 1)", "n": "count()"})
    found = applied(spec, candidates(1, "?", 3), columns=["s"])
    assert column(found, "s") == {"7": {"sum": 6, "n": 3}}
    assert codes(found.faults) == {"7/c#1": "expression_error"}


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        ({"max": "row.x"}, "7/c#1"),
        ({"min": "row.x"}, "7/c#0"),
        ({"first": "row.x > 2"}, "7/c#1"),
        ({"max": "row.x % 2"}, "7/c#1"),  # the first of several
    ],
)
def test_pick_keeps_a_row_whole(pick: dict[str, str], expected: str) -> None:
    rows = candidates(2, 9, 3, 4)
    found = applied(step_of(type="reduce", pick=pick), rows, columns=["q"])
    assert [row.row_id for row in found.rows] == [expected]
    assert found.rows[0] in rows


def test_a_group_of_which_nothing_can_be_picked() -> None:
    rows = [*candidates(None, None), *candidates(1, parent="8")]
    found = applied(step_of(type="reduce", pick={"max": "row.x"}), rows)
    assert [row.row_id for row in found.rows] == ["7/c#0", "8/c#0"]
    assert codes(found.faults) == {"7/c#0": "nothing_to_pick"}
    found = applied(step_of(type="reduce", pick={"max": "row.x"}, on_error="drop"), rows)
    assert [row.row_id for row in found.rows] == ["8/c#0"]
    found = applied(step_of(type="reduce", pick={"first": "row.x > 5"}), rows)
    assert (found.rows, found.faults, found.num_dropped) == ([], [], 2)


def listed(rows: list[Row]) -> Applied:
    """Bring the rows of groups together for a prompt."""
    spec = step_of(type="reduce", prompt="{{ rows | length }}", order_by="row.x")
    step = planned(spec, ["q", ROWS], id=f"s{GROUPS}")
    return local.apply(plan_of(step), step, [rows])


def test_rows_of_a_group_are_listed_for_a_prompt() -> None:
    found = listed([*candidates(2, 1), *candidates(None, parent="8")])
    assert [row.row_id for row in found.rows] == ["7", "8"]
    assert found.rows[0].values == {
        "q": "why",
        ROWS: [
            {"q": "why", "c": "text 1", "x": 1, "row_id": "7/c#1"},
            {"q": "why", "c": "text 0", "x": 2, "row_id": "7/c#0"},
        ],
    }


def test_of_a_group_that_is_too_large_for_a_prompt_no_rows_are_listed() -> None:
    found = listed([*candidates(*range(MAX_LISTED_ROWS + 1)), *candidates(1, parent="8")])
    assert [row.values[ROWS] is None for row in found.rows] == [True, False]
    assert found.faults == []
    found = listed(candidates(*range(MAX_LISTED_ROWS)))
    assert len(found.rows[0].values[ROWS]) == MAX_LISTED_ROWS


def test_concat_keeps_ids_apart() -> None:
    found = applied(step_of(type="concat"), NUMBERS[:2], NUMBERS[:1])
    assert [row.row_id for row in found.rows] == ["0/s#0", "1/s#0", "0/s#1"]


LEFT = rows_of({"k": 1, "a": "x"}, {"k": 2, "a": "y"}, {"k": None, "a": "z"})
RIGHT = [
    Row("0", {"key": 1.0, "b": 1}),
    Row("5", {"key": 1, "b": 2}),
    Row("6", {"key": None, "b": 3}),
    Row("2", {"key": True, "b": 4}),
]


def test_join_by_columns_makes_a_child_of_each_match() -> None:
    spec = step_of(type="join", on={"k": "key"})
    found = applied(spec, LEFT, RIGHT)
    assert column(found, "s") == {"0/s#0": {"key": 1.0, "b": 1}, "0/s#1": {"key": 1, "b": 2}}
    assert found.num_dropped == 2
    found = applied(step_of(type="join", on={"k": "key"}, how="left"), LEFT, RIGHT)
    assert [row.row_id for row in found.rows] == ["0/s#0", "0/s#1", "1/s#0", "2/s#0"]
    assert found.rows[3].values["s"] is None


def test_join_by_row_id_keeps_the_row() -> None:
    found = applied(step_of(type="join"), LEFT, RIGHT)
    assert column(found, "s") == {"0": RIGHT[0].values, "2": RIGHT[3].values}
    found = applied(step_of(type="join", how="left"), LEFT, RIGHT)
    assert column(found, "s") == {"0": RIGHT[0].values, "1": None, "2": RIGHT[3].values}


@pytest.mark.parametrize(("how", "expected"), [("semi", ["0"]), ("anti", ["1", "2"])])
def test_semi_and_anti_choose_rows(how: str, expected: list[str]) -> None:
    found = applied(step_of(type="join", on={"k": "key"}, how=how), LEFT, RIGHT)
    assert [row.row_id for row in found.rows] == expected
    assert found.num_dropped == len(LEFT) - len(expected)
    assert "s" not in found.rows[0].values


def test_too_many_matches_are_the_rows_fault() -> None:
    found = applied(step_of(type="join", on={"k": "key"}, max=1), LEFT, RIGHT)
    assert column(found, "s") == {"0/s#0": None}
    assert codes(found.faults) == {"0": "too_many_children"}
