from typing import Any

import pytest

from penstock.jobs.workflow.expressions.expression import (
    EvaluationError,
    Expression,
    ExpressionError,
)
from penstock.jobs.workflow.expressions.values import MAX_TEXT_CHARS

ROW: dict[str, Any] = {
    "text": "  Hello World ",
    "n": 7,
    "x": 2.5,
    "yes": True,
    "nothing": None,
    "tags": ["b", "a", "b"],
    "doc": {"score": 8, "lines": [{"amount": 1.5}, {"amount": 2.5}, {"amount": None}]},
    "big": "x" * 900_000,
    "items": list(range(60_000)),
    "body": '{"a": [1, 2]}',
}


def value_of(text: str, **params: Any) -> Any:
    return Expression.parse(text).evaluate({"row": ROW, "params": params})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("7 // 2 + 7 % 4", 6),
        ("-row.n + +1", -6),
        ("- row.x | abs", 2.5),  # the sign first, then the filter: as in Jinja
        ("1 - [4, 5] | sum", -8),
        ("(1 - row.doc.lines | sum(attribute='amount')) | abs < 3.01", True),
        ("row.text | trim | lower == 'hello world'", True),
        ("{{ row.n }}", 7),
        ("{{- row.n + 1 -}}", 8),
        ("1 < row.n <= 7 != 8", True),
        ("1 < row.n < 7", False),
        ("'a' in row.tags and 'z' not in row.tags", True),
        ("'World' in row.text", True),
        ("'score' in row.doc", True),
        ("not row.yes or row.n > 3", True),
        ("row.nothing or 'default'", "default"),
        ("'big' if row.n > 10 else 'mid' if row.n > 5 else 'small'", "mid"),
        ("row['doc']['score']", 8),
        ("row.tags[0] ~ row.tags[-1] ~ 1", "bb1"),
        ("row.text[2:7]", "Hello"),
        ("row.tags[:2] + ['c']", ["b", "a", "c"]),
        ("[1, 'a', true, None]", [1, "a", True, None]),
        ("'it\\'s\\n' + \"\\u00e9\"", "it's\né"),
        ("params.min + 1", 4),
        (".5e1", 5.0),
        ("true == True and null == none", True),
    ],
)
def test_what_an_expression_says(text: str, value: Any) -> None:
    assert value_of(text, min=3) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("len(row.tags) + len('abc') + len(row.doc)", 8),
        ("upper('a') + replace('aXbX', 'X', '-')", "Aa-b-"),
        ("'a,b' | split(',') | join(' and ')", "a and b"),
        ("startswith('abc', 'ab') and endswith('abc', 'bc') and contains(row.tags, 'a')", True),
        ("words(row.text)", ["Hello", "World"]),
        ("numbers('7/10, or -2.5')", [7, 10, -2.5]),
        ("round(2.345, 2)", 2.35),
        ("round(2.6) + abs(-3)", 6),
        ("min(3, row.n) + max([1, 9, null])", 12),
        ("row.doc.lines | map(attribute='amount') | mean", 2.0),
        ("any([false, row.n > 3]) and not all([true, null])", True),
        ("int('12') + int(3.9) + int(' -4 ')", 11),
        ("float('1e3')", 1000.0),
        ("str(row.n) + str(true)", "7true"),
        ("bool('')", False),
        ("json(row.body).a[1]", 2),
        ("tojson(row.tags)", '["b", "a", "b"]'),
        ("coalesce(row.nothing, row.nope, 'c')", "c"),
        ("row.nothing | default(3)", 3),
        ("exists(row.n) and is_null(row.nothing)", True),
        ("row.n is none or row.nope is not defined", True),
        ("row.tags | unique | sort | first", "a"),
        ("(row.tags | reverse | last) ~ (row.tags | count)", "b3"),
        ("like('Chapter 12: End', 'Chapter%: _nd')", True),
        ("like('abcabd', '%ab_') and like('', '%') and not like('abc', 'a_')", True),
        ("like('aXbXc', 'a%X%c') and not like('ac', 'a%b%c')", True),
    ],
)
def test_what_functions_give(text: str, value: Any) -> None:
    assert value_of(text) == value


@pytest.mark.parametrize(
    "text",
    ["row.nope", "row.nope.deeper[3]", "row.nothing.x", "row.tags[9]", "row.tags[-9]", "'a'[1]"],
)
def test_what_is_not_there_is_null(text: str) -> None:
    assert value_of(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("row.nothing == null and row.n != null", True),
        ("row.nothing < 1 or row.nothing >= 1 or 1 > row.nothing", False),
        ("row.nothing in ['a'] or 'a' in row.nothing", False),
        ("null in [1, null]", True),
        ("1 == true or 'a' == 1 or [1] == [true] or 0 == ''", False),
        ("1 == 1.0 and [1] == [1.0]", True),
        ("true + 1", 2),
    ],
)
def test_what_null_and_truth_are_equal_to(text: str, value: bool) -> None:
    assert value_of(text) is value or value_of(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("row.nothing + 1", "+ does not work on null and 1"),
        ("row.tags * 5", "* does not work on a list of 3 and 5"),
        ("row.text % 3", "% does not work on"),
        ("1 / 0", "/ by zero"),
        ("1 % (row.n - 7)", "% by zero"),
        ("9223372036854775807 + 1", "a number of more than 64 bits"),
        ("1e308 * 10", "not a finite number"),
        ("row.n < 'a'", "7 and 'a' have no order"),
        ("row.n in 3", "7 cannot be in 3"),
        ("row.n.x", "7 has no 'x'"),
        ("row.tags.x", "a list of 3 has no 'x'"),
        ("row.tags['x':]", "from one whole number to another"),
        ("row.doc[1:]", "cannot be sliced"),
        ("-row.text", "- does not work on"),
        ("lower(row.n)", "lower takes a text, got 7"),
        ("int('abc')", "'abc' is not a number"),
        ("sum(row.tags)", "sum takes numbers, got 'b'"),
        ("max(1, 'a')", "have no order"),
        ("sort([1, 'a'])", "a list of numbers, or of texts"),
        ("split('a', '')", "a separator that is not empty"),
        ("json('{')", "it is no JSON"),
        ("json('[' + replace('x' * 0, 'x', ''))", "* does not work"),
        ("str([1])", "a list of 1 is no text"),
        ("row.big + row.big", "a text longer than"),
        ("replace(row.big, 'x', 'yyyy')", "longer than"),
        ("row.items + row.items", "a list longer than"),
        (" and ".join(["row.big == row.big"] * 3), "more than 2000000 steps"),
        ("row.items | map(attribute='a.b.c')", "has no 'a'"),
        ("'a' in row.items or " * 40 + "false", "more than 2000000 steps"),
    ],
)
def test_a_row_without_a_value_fails_alone(text: str, problem: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        value_of(text)
    assert problem in str(caught.value)
    error = caught.value.to_request_error()
    assert (error.code, error.stage) == ("expression_error", "render")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "an expression is missing"),
        ("{{ }}", "an expression is missing"),
        ("row.n +", "a value is expected, but it ends"),
        ("(1 + 2", "')' is expected, but it ends"),
        ("1 2", "an operator is expected, but there is '2'"),
        ("row.", "the name of a field is expected, but it ends"),
        ("row.3", "an operator is expected, but there is '.3'"),
        ("row.n |", "the name of a filter is expected, but it ends"),
        ("row.n | 3", "the name of a filter is expected, but there is '3'"),
        ("'abc", "a text has no closing quote"),
        ("'\\x41'", "no escape \\x"),
        ("'\\ud800'", "half a character"),
        ("1a", "a number ends in letters"),
        ("1e999", "too large a number"),
        ("99999999999999999999", "too large a number"),
        ("text == 1", "unknown name 'text' (known: params, row); a column is called row.text"),
        ("row.n ** 2", "a value is expected, but there is '*'"),
        ("row.n = 2", "an operator is expected, but there is '='"),
        ("{'a': 1}", "there are lists [1, 2], but no objects"),
        ("row.n && 1", "say and, or, not"),
        ("row.text.upper()", "there are no methods; say x | upper"),
        ("uper(row.text)", "no function 'uper'; did you mean 'upper'?"),
        ("row.text | uper", "no function 'uper'"),
        ("__import__('os')", "no function '__import__'"),
        ("eval('1')", "no function 'eval'"),
        ("count()", "count is an aggregate; it can only be called in `agg`"),
        ("lower()", "lower takes 1 arguments, got 0"),
        ("lower('a', 'b')", "lower takes 1 arguments, got 2"),
        ("sum(row.a, attribute='x', 3)", "sum takes 1 arguments, got 2"),
        ("lower('a', attribute='x')", "lower takes no attribute here"),
        ("sum(row.a, start=1)", "no argument 'start'"),
        ("row.a | map", "map takes an attribute"),
        ("row.a is odd", "after `is` may stand none, null or defined"),
        ("lambda: 1", "unknown name 'lambda'"),
        ("[x for x in row]", "unknown name 'x'"),
        ("(" * 50 + "1" + ")" * 50, "nested more than 40 deep"),
        ("not " * 50 + "1", "nested more than 40 deep"),
        ("-" * 50 + "1", "nested more than 40 deep"),
        ("row" + "[0" * 50 + "]" * 50, "nested more than 40 deep"),
        ("+".join(["1"] * 200), "more than 100 operations in a row"),
        ("row" + ".a" * 200, "more than 100 operations in a row"),
        ("[" + "1," * 2_100 + "]", "more than 2000 parts"),
        ("'" + "x" * 10_000 + "'", "may have 10000 characters, got 10002"),
    ],
)
def test_what_is_no_expression(text: str, problem: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse(text)
    assert problem in str(caught.value)


def test_an_error_points_at_its_place() -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.parse("{{ row.n + * 2 }}")
    assert str(caught.value).splitlines()[1:] == ["  row.n + * 2", "          ^"]
    with pytest.raises(EvaluationError) as failed:
        value_of("row.n > 1\n  and row.text / 2 > 3")
    shown, caret = str(failed.value).splitlines()[1:]
    assert shown[caret.index("^")] == "/"


def test_a_long_expression_is_shown_around_the_place() -> None:
    long = " and ".join(["row.n == 7"] * 20)
    with pytest.raises(EvaluationError) as caught:
        value_of(f"{long} and row.n / 0 and {long}")
    shown, caret = str(caught.value).splitlines()[1:]
    assert len(shown) < 80
    assert shown[caret.index("^")] == "/"


def test_what_is_decided_is_not_looked_at_further() -> None:
    assert value_of("false and 1 / 0 > 1") is False
    assert value_of("row.n == 7 or 1 / 0 > 1") is True
    assert value_of("1 if true else 1 / 0") == 1
    assert value_of("3 < 2 < 1 / 0") is False


def test_the_columns_that_an_expression_reads() -> None:
    text = "row.judge.score >= params.min and row['a b'] in rows[0].tags | map(attribute='x')"
    expression = Expression.parse(text, names=frozenset({"row", "params", "rows"}))
    assert expression.columns == {("judge", "score"), ("a b",)}
    assert ("params", "min") in expression.paths
    assert Expression.parse("len(row) > 3").columns == {()}


def test_a_row_is_never_changed() -> None:
    row = {"tags": [2, 1]}
    expression = Expression.parse("(row.tags | sort) + row.tags + (row.tags | reverse)")
    assert expression.evaluate({"row": row, "params": {}}) == [1, 2, 2, 1, 1, 2]
    assert row == {"tags": [2, 1]}


def test_hostile_texts_cost_little() -> None:
    row = {"a": "a" * 100_000, "b": "a" * 9_000 + "b"}
    pattern = "%" + "a%" * 400 + "b"
    for text in (f"like(row.a, '{pattern}')", "contains(row.a, row.b)", "numbers(row.a)"):
        try:
            Expression.parse(text).evaluate({"row": row, "params": {}})
        except EvaluationError as error:
            assert "steps" in str(error)


def test_the_longest_text_may_just_be() -> None:
    half = "x" * (MAX_TEXT_CHARS // 2)
    scope = {"row": {"half": half}, "params": {}}
    assert len(Expression.parse("row.half + row.half").evaluate(scope)) == MAX_TEXT_CHARS
