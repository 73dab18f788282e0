"""What a PromQL expression asks for: its metrics, their labels, and the labels of its answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

_TARGET = frozenset({"instance", "job"})  # Prometheus adds them to whatever it scrapes
_SHARED = frozenset({"max", "min", "count"})  # do not care how often they are told the same


@dataclass(frozen=True)
class Use:
    """One metric in an expression, and the innermost aggregation around it, if any."""

    metric: str
    labels: frozenset[str]
    aggregation: str | None


def parse(text: str) -> Any:
    """Parse an expression; what Grafana fills in is filled in first."""
    for variable, value in (("$__rate_interval", "5m"), ("$model", ".*")):
        text = text.replace(variable, value)
    return promql.parse(text)


def uses(expression: Any, aggregation: str | None = None) -> Iterator[Use]:
    """Tell every metric that is asked for."""
    if isinstance(expression, promql.VectorSelector):
        matchers = expression.matchers.matchers
        names = frozenset(each.name for each in matchers)
        assert expression.name is not None
        yield Use(expression.name, names, aggregation)
    if isinstance(expression, promql.AggregateExpr):
        aggregation = str(expression.op)
    for child in _children(expression):
        yield from uses(child, aggregation)


def answered(expression: Any, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the labels that the answer may have; fails where it groups by what is not there."""
    if isinstance(expression, promql.VectorSelector):
        return known[expression.name or ""] | _TARGET
    inner = frozenset[str]().union(*(answered(each, known) for each in _children(expression)))
    if not isinstance(expression, promql.AggregateExpr):
        return inner
    if expression.modifier is None:
        return frozenset()
    labels = frozenset(expression.modifier.labels)
    assert labels <= inner, f"{expression.prettify()} groups by {sorted(labels - inner)}"
    return labels


def is_told_once(use: Use) -> bool:
    """Whether it does not matter how many processes tell the same."""
    return use.aggregation in _SHARED


def _children(expression: Any) -> list[Any]:
    match expression:
        case promql.BinaryExpr():
            return [expression.lhs, expression.rhs]
        case promql.Call():
            return list(expression.args)
        case promql.MatrixSelector():
            return [expression.vector_selector]
        case promql.VectorSelector() | promql.NumberLiteral() | promql.StringLiteral():
            return []
        case _:
            return [expression.expr]
