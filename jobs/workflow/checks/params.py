"""The params of a run: what the workflow names, with what the run says instead. Knows no step."""

from collections.abc import Mapping
from typing import Any

from ..expressions.errors import nearest, shown
from ..expressions.types import Type
from ..plain_data import reason_against
from .problems import Problems

MAX_PARTS = 100_000  # of the value of one
MAX_CHARS = 500_000


def merged_params(
    named: Mapping[str, Any], given: Mapping[str, Any], problems: Problems
) -> dict[str, Any]:
    """Return all params with their values; those given in place of their defaults."""
    merged = dict(named)
    for name, value in given.items():
        where = f"params.{str(name)[:40]}"
        if name not in named:
            known = nearest(str(name), named) or f"; known: {', '.join(named)[:200] or 'none'}"
            problems.add(where, f"the workflow has no such param{known}")
            continue
        reason = reason_against(value, max_parts=MAX_PARTS, max_chars=MAX_CHARS)
        reason = reason or _unlike(value, named[name])
        if reason is not None:
            problems.add(where, reason)
        else:
            merged[name] = value
    return merged


def _unlike(value: Any, default: Any) -> str | None:
    """Say in what a value differs from a default of another kind."""
    if default is None:
        return None
    got, wanted = Type.of_value(value), Type.of_value(default)
    is_alike = got.kind == wanted.kind or (got.kind, wanted.kind) == ("int64", "float64")
    if is_alike:
        return None
    return f"must be {wanted.in_words}, as its default {shown(default)} is, got {shown(value)}"
