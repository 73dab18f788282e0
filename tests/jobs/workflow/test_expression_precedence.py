"""What binds how strongly is what Jinja says: the same texts, understood by both."""

import jinja2
import pytest
from hypothesis import given, settings, strategies as st

from penstock.jobs.workflow.expressions.expression import EvaluationError, Expression

ROW = {"a": 3, "b": -2, "c": 5, "list": [4, 1, 3]}
ATOM = st.sampled_from(["row.a", "row.b", "row.c", "1", "2", "7", "row.list[0]", "row.list | sum"])
BINARY = st.sampled_from(["+", "-", "*", "//", "%", "==", "!=", "<", "<=", ">", ">=", "and", "or"])
UNARY = st.sampled_from(["-", "not ", "", "", ""])
FILTER = st.sampled_from([" | abs", " | string | length", "", "", ""])


@st.composite
def flat(draw: st.DrawFn) -> str:
    """A row of operands and operators, with hardly a parenthesis to say what belongs together."""
    parts: list[str] = []
    for index in range(draw(st.integers(2, 6))):
        operand = draw(UNARY) + draw(ATOM) + draw(FILTER)
        if index:
            parts.append(draw(BINARY))
        parts.append(f"({operand})" if draw(st.booleans()) else operand)
    text = " ".join(parts)
    return f"{text} if {draw(ATOM)} > 2 else {draw(ATOM)}" if draw(st.booleans()) else text


def by_jinja(text: str) -> object:
    return jinja2.Environment().compile_expression(text, undefined_to_none=False)(row=ROW)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(flat())
def test_precedence_is_that_of_jinja(text: str) -> None:
    try:
        expected = by_jinja(text)
    except (TypeError, ZeroDivisionError, jinja2.TemplateError):
        return
    try:
        value = Expression.parse(text).evaluate({"row": ROW, "params": {}})
    except EvaluationError:
        return  # we are stricter: no true is abs'ed, no text is compared with a number
    if isinstance(value, bool) == isinstance(expected, bool):
        assert value == expected, text


@pytest.mark.parametrize(
    "text",
    [
        "-row.b | abs",
        "1 - row.list | sum * 2",
        "not row.a == 3 or row.b < 0 and row.c > 9",
        "1 if row.a > 2 else 2 if row.b else 3",
        "1 ~ row.b * 2 ~ (3 - 1)",
        "2 * row.a % 4 // 1 - 1",
        "row.a not in row.list and 9 not in row.list",
    ],
)
def test_what_is_easily_read_in_two_ways(text: str) -> None:
    value = Expression.parse(text).evaluate({"row": ROW, "params": {}})
    assert value == by_jinja(text)
