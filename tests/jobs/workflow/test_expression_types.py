from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from penstock.jobs.workflow.expressions.expression import (
    EvaluationError,
    Expression,
    ExpressionError,
)
from penstock.jobs.workflow.expressions.types import BOOL, FLOAT, INT, TEXT, Type

JUDGE = Type.object_of({"score": INT, "verdict": Type.one_of(["right", "wrong"]), "reason": TEXT})
LINES = Type("list", item=Type.object_of({"amount": FLOAT, "name": TEXT}))
ROW = Type.object_of(
    {
        "n": INT,
        "x": FLOAT,
        "text": TEXT,
        "yes": BOOL,
        "judge": JUDGE,
        "lines": LINES,
        "json": Type("any"),
        "vector": Type("vector", item=FLOAT),
    }
)
PARAMS = Type.of_value({"min": 3, "models": ["a", "b"]})


def type_of(text: str) -> Type:
    return Expression.parse(text).type_in({"row": ROW, "params": PARAMS})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("row.n + 1", "int64"),
        ("row.n + row.x", "float64"),
        ("row.n / 2", "float64"),
        ("row.yes + 1", "int64"),
        ("row.text + 'a'", "string"),
        ("row.n ~ 'a'", "string"),
        ("row.judge.score >= params.min and row.yes", "bool"),
        ("row.lines | sum(attribute='amount')", "float64"),
        ("row.lines[0].name", "string"),
        ("row.lines | map(attribute='name') | first", "string"),
        ("row.vector[0]", "float64"),
        ("row.json.anything.at[3].all", "any"),
        ("row.json + 1", "any"),
        ("row.text | words | len", "int64"),
        ("round(row.x)", "int64"),
        ("round(row.x, 2)", "float64"),
        ("row.n if row.yes else row.x", "float64"),
        ("row.n if row.yes else row.text", "any"),
        ("row.n if row.yes else null", "int64"),
        ("row.text | default('x')", "string"),
        ("[1, 2.5]", "list"),
        ("row.judge", "object"),
        ("null", "null"),
    ],
)
def test_the_type_of_what_comes_out(text: str, kind: str) -> None:
    assert type_of(text).kind == kind


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("row.judge.scoer > 3", "row.judge has no field 'scoer'; did you mean 'score'?"),
        ("row.zebra", "row has no column 'zebra'; known: json, judge, lines"),
        ("row.n.x", "row.n is a number; it has no field 'x'"),
        ("row.text[0].x", "is a text; it has no field"),
        ("row.lines.amount", "row.lines is a list; it has no fields"),
        ("row.lines[0].amuont", "no field 'amuont'; did you mean 'amount'?"),
        ("row.lines | sum(attribute='amuont')", "no field 'amuont'; did you mean 'amount'?"),
        ("row.lines | sum(attribute='name')", "sum takes a list of numbers, got a list"),
        ("row.judge[0]", "a field of an object is named by a text"),
        ("params.mni", "did you mean 'min'?"),
        ("row.text < 3", "a text and a number have no order (<)"),
        ("'a' < 3", "have no order"),
        ("row.judge > row.judge", "an object and an object have no order"),
        ("row.text == 3", "a text and a number are never equal"),
        ("row.n in ['a']", "a number and a text are never equal"),
        ("row.text in row.n", "nothing can be in a number"),
        ("row.judge.verdict == 'rihgt'", "it is never 'rihgt', only 'right', 'wrong'"),
        ("row.judge.verdict in ['right', 'worng']", "it is never 'worng'"),
        ("row.text + 1", "+ does not work on a text and a number"),
        ("row.text * 3", "* does not work on a text and a number"),
        ("-row.text", "- does not work on a text"),
        ("row.judge ~ 'a'", "~ does not work on an object"),
        ("lower(row.n)", "lower takes a text, got a number"),
        ("row.n[1:]", "a number cannot be sliced"),
        ("row.text['a':]", "a slice goes from one whole number to another"),
    ],
)
def test_what_can_never_be(text: str, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        type_of(text)
    assert problem in str(caught.value)


def test_a_value_that_may_change_is_compared_with_anything() -> None:
    assert type_of("params.models[0] == 'c'").kind == "bool"
    assert type_of("row.text == 'c' or 'd' in params.models").kind == "bool"


VALUES: dict[str, Any] = {
    "n": 3,
    "x": 0.5,
    "text": "a b",
    "yes": False,
    "vector": [0.5, 1.5],
    "judge": {"score": 7, "verdict": "right", "reason": "so"},
    "lines": [{"amount": 2.5, "name": "nut"}],
    "json": {"a": [1, "x"]},
}
ATOMS = st.sampled_from(
    [
        *("row.n", "row.x", "row.text", "row.yes", "row.judge.score", "row.judge.verdict"),
        *("row.lines", "row.json", "row.json.a", "row.vector", "row.nope", "params.min"),
        *("1", "0", "2.5", "'a'", "''", "true", "null", "[1, 2]", "['a']", "[]"),
    ]
)


OPERATORS = (
    *("+", "-", "*", "/", "//", "%", "~"),
    *("==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"),
)
CALLED = (
    *("len", "lower", "trim", "words", "sum", "mean", "min", "max"),
    *("any", "all", "abs", "round", "str", "bool", "int", "sort"),
)


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    functions = st.sampled_from(CALLED)
    pair = st.tuples(inner, st.sampled_from(OPERATORS), inner)
    return st.one_of(
        pair.map(lambda each: f"({each[0]} {each[1]} {each[2]})"),
        st.tuples(functions, inner).map(lambda each: f"{each[0]}({each[1]})"),
        st.tuples(inner, functions).map(lambda each: f"{each[0]} | {each[1]}"),
        st.tuples(inner, inner, inner).map(lambda each: f"({each[0]} if {each[1]} else {each[2]})"),
        st.tuples(inner, inner).map(lambda each: f"{each[0]}[{each[1]}]"),
        inner.map(lambda each: f"-{each}"),
        inner.map(lambda each: f"(not {each})"),
    )


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.recursive(ATOMS, larger, max_leaves=8))
def test_what_is_told_of_a_value_is_true_of_it(text: str) -> None:
    try:
        expression = Expression.parse(text)
        told = expression.type_in({"row": ROW, "params": PARAMS})
        value = expression.evaluate({"row": VALUES, "params": {"min": 3, "models": ["a", "b"]}})
    except (ExpressionError, EvaluationError):
        return
    if value is None or told.kind == "any":
        return
    kind = Type.of_value(value).kind
    alike = {("int64", "float64"), ("list", "vector"), ("float64", "int64")}
    assert kind == told.kind or (kind, told.kind) in alike, (text, value, told)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.text(alphabet="row.nx12'\"[]()|+-*/%<>=!, \nif else and or not in is {}\\é\0", max_size=60)
)
def test_any_text_is_an_expression_or_is_told_what_is_wrong(text: str) -> None:
    try:
        expression = Expression.parse(text)
        expression.evaluate({"row": VALUES, "params": {}})
    except (ExpressionError, EvaluationError) as error:
        assert str(error)
