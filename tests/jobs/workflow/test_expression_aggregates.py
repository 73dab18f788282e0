from typing import Any

import pytest

from penstock.jobs.workflow.expressions.expression import (
    Aggregate,
    EvaluationError,
    ExpressionError,
)
from penstock.jobs.workflow.expressions.folds import MAX_LISTED
from penstock.jobs.workflow.expressions.types import BOOL, INT, TEXT, Type

ROWS: list[dict[str, Any]] = [
    {"x": 3, "hit": True, "name": "b", "doc": {"v": [1]}},
    {"x": None, "hit": False, "name": "a", "doc": {"v": [1.0]}},
    {"x": 5, "hit": True, "name": None, "doc": None},
    {"x": 4, "hit": True, "name": "a", "doc": {"v": [True]}},
]


def result_of(text: str, rows: list[dict[str, Any]] = ROWS, **params: Any) -> Any:
    accumulator = Aggregate.parse(text).new()
    for row in rows:
        accumulator.add({"row": row, "params": params})
    return accumulator.result()


@pytest.mark.parametrize(
    ("text", "value", "of_none"),
    [
        ("count()", 4, 0),
        ("sum(row.x)", 12, 0),
        ("sum(row.hit)", 3, 0),
        ("mean(row.x)", 4.0, None),
        ("mean(row.hit)", 0.75, None),
        ("min(row.x)", 3, None),
        ("max(row.name)", "b", None),
        ("any(row.x > 4)", True, False),
        ("all(row.hit)", False, True),
        ("list(row.name)", ["b", "a", None, "a"], []),
        ("majority(row.name)", "a", None),
        ("majority(row.doc)", {"v": [1]}, None),
        ("first(row.x)", 3, None),
        ("last(row.name)", "a", None),
    ],
)
def test_what_becomes_of_a_group(text: str, value: Any, of_none: Any) -> None:
    assert result_of(text) == value
    assert result_of(text, []) == of_none


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ count() }}", 4),
        ("sum(row.hit) / count()", 0.75),
        ("round(mean(row.x == 3) * 100, 1)", 25.0),
        ("mean(row.hit) | round(1)", 0.8),
        ("max(sum(row.x), params.least)", 20),
        ("'many' if count() > 3 else 'few'", "many"),
        ("len(list(row.x)) + count()", 8),
        ("mean(max(row.x, 4))", 4.25),
        ("sum(row.x) - min(row.x) - max(row.x)", 4),
    ],
)
def test_aggregates_can_be_computed_with(text: str, value: Any) -> None:
    assert result_of(text, least=20) == value


def test_a_majority_of_equals_is_the_first() -> None:
    rows = [{"x": value} for value in ("b", "a", "a", "b", "c")]
    assert result_of("majority(row.x)", rows) == "b"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("row.x", "which row? Put it in an aggregate"),
        ("count() + row.x", "which row?"),
        ("row.x | sum", "which row?"),
        ("3", "there is no aggregate in it"),
        ("params.n", "there is no aggregate in it"),
        ("count(row.x)", "count takes nothing"),
        ("mean()", "mean takes an expression"),
        ("sum(count())", "an aggregate cannot hold another"),
        ("sum(row.x, row.y)", "sum takes 1 arguments, got 2"),
        ("sum(row.x, attribute='y')", "attribute"),
        ("median(row.x)", "no function 'median'"),
        ("sum(rows)", "unknown name 'rows'"),
    ],
)
def test_what_is_no_aggregate(text: str, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Aggregate.parse(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sum(row.name)", "it adds numbers, got 'b'"),
        ("min(row.hit | str) ~ min(coalesce(row.name, 1))", "have no order"),
        ("sum(row.x / 0)", "/ by zero"),
        ("sum(row.x) / (count() - 4)", "/ by zero"),
    ],
)
def test_a_group_without_a_value(text: str, problem: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        result_of(text)
    assert problem in str(caught.value)


def test_a_group_keeps_no_more_than_it_may() -> None:
    rows = [{"x": index} for index in range(MAX_LISTED + 1)]
    with pytest.raises(EvaluationError, match=f"may have {MAX_LISTED} items"):
        result_of("list(row.x)", rows)
    big = [{"x": f"{index}" + "x" * 900_000} for index in range(6)]
    for text in ("list(row.x)", "majority(row.x)"):
        with pytest.raises(EvaluationError, match=r"list of a group|majority"):
            result_of(text, big)
    assert result_of("sum(row.x)", rows) == MAX_LISTED * (MAX_LISTED + 1) // 2


def test_the_types_of_aggregates() -> None:
    row = Type.object_of({"x": INT, "hit": BOOL, "name": TEXT})
    scope = {"row": row, "params": Type.of_value({})}

    def kind(text: str) -> str:
        return Aggregate.parse(text).type_in(scope).kind

    assert [kind("count()"), kind("sum(row.hit)"), kind("mean(row.x)")] == [
        *("int64", "int64", "float64")
    ]
    assert [kind("max(row.name)"), kind("any(row.hit)"), kind("list(row.x)")] == [
        *("string", "bool", "list")
    ]
    assert kind("sum(row.x) / count()") == "float64"
    for text, problem in (
        ("mean(row.name)", "mean takes numbers, got a text"),
        ("max(row.hit)", "max takes numbers or texts, got true or false"),
        ("sum(row.y)", "no column 'y'"),
        ("count() + 'a'", "+ does not work on a number and a text"),
    ):
        with pytest.raises(ExpressionError) as caught:
            kind(text)
        assert problem in str(caught.value)
