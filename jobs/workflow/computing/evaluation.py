"""Expressions and templates at work: each is compiled once per text. Knows no step.

What goes wrong is raised as `RowFailed`: whatever the text of a workflow meets in a row, only that
row fails.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ...templates import RenderError, Template
from ..expressions.aggregates import Aggregate
from ..expressions.errors import EvaluationError, shown
from ..expressions.expression import Expression
from .ledger import RowFailed

_NAMES = frozenset({"row", "params"})
_TEMPLATE_NAMES = frozenset({"row", "params", "rows"})


@lru_cache(maxsize=512)
def expression(text: str) -> Expression:
    """Compile an expression over a row."""
    return Expression.parse(text, names=_NAMES)


@lru_cache(maxsize=512)
def aggregate(text: str) -> Aggregate:
    """Compile an aggregate over the rows of a group."""
    return Aggregate.parse(text)


@lru_cache(maxsize=512)
def template(text: str) -> Template:
    """Compile a template."""
    return Template.compile(text, _TEMPLATE_NAMES)


def evaluate(text: str, scope: Mapping[str, Any]) -> Any:
    """Return the value of an expression.

    Raises:
        RowFailed: it has none for this row.
    """
    try:
        return expression(text).evaluate(scope)
    except EvaluationError as error:
        raise RowFailed(error.to_request_error()) from None


def holds(text: str, scope: Mapping[str, Any]) -> bool:
    """Return whether a condition holds; null is no.

    Raises:
        RowFailed: it is neither true nor false.
    """
    value = evaluate(text, scope)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise RowFailed.because(
        "expression_error", f"{text[:200]!r} must be true or false, got {shown(value)}"
    )


def count_of(number: int | str, scope: Mapping[str, Any]) -> int:
    """Return a number that is written out, or as an expression.

    Raises:
        RowFailed: it is no whole number.
    """
    value = evaluate(number, scope) if isinstance(number, str) else number
    if type(value) is int and value >= 0:
        return value
    raise RowFailed.because(
        "expression_error", f"{str(number)[:200]!r} must be a whole number, got {shown(value)}"
    )


def render(text: str, scope: Mapping[str, Any]) -> str:
    """Fill a template in.

    Raises:
        RowFailed: it cannot be done for this row.
    """
    try:
        return template(text).render_in(scope)
    except RenderError as error:
        raise RowFailed(error.to_request_error()) from None
