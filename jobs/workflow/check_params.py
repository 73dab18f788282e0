"""The params of a run: what the workflow names, with what the run says instead. Knows no step."""

import json
import math
from collections.abc import Mapping
from typing import Any

from .check_problems import Problems
from .expression_errors import nearest, shown
from .expression_values import MAX_VALUE_DEPTH
from .types import Type

MAX_CHARS = 1_000_000  # of all params, as JSON


def merged_params(
    named: Mapping[str, Any], given: Mapping[str, Any], problems: Problems
) -> dict[str, Any]:
    """Return all params with their values; those given in place of their defaults."""
    merged = dict(named)
    num_chars = 0
    for name, value in given.items():
        where = f"params.{str(name)[:40]}"
        if name not in named:
            known = nearest(str(name), named) or f"; known: {', '.join(named)[:200] or 'none'}"
            problems.add(where, f"the workflow has no such param{known}")
            continue
        reason = _reason_against(value)
        if reason is None:
            num_chars += len(json.dumps(value, ensure_ascii=False))
            reason = _unlike(value, named[name])
        if reason is not None:
            problems.add(where, reason)
            continue
        merged[name] = value
    if num_chars > MAX_CHARS:
        problems.add("params", f"they may have {MAX_CHARS} characters, got {num_chars}")
    return merged


def _reason_against(value: Any) -> str | None:
    """Say why a value is no plain data."""
    todo = [(value, 1)]
    while todo:
        each, depth = todo.pop()
        match each:
            case None | bool() | str():
                pass
            case int() if each.bit_length() > 63:
                return f"a number has {each.bit_length()} bits, more than 63"
            case float() if not math.isfinite(each):
                return f"{each} is not a finite number"
            case int() | float():
                pass
            case list() | dict() if depth > MAX_VALUE_DEPTH:
                return f"it is nested more than {MAX_VALUE_DEPTH} deep"
            case list():
                todo.extend((item, depth + 1) for item in each)
            case dict() if all(isinstance(key, str) for key in each):
                todo.extend((item, depth + 1) for item in each.values())
            case _:
                return f"{shown(each)} is no plain data"
    return None


def _unlike(value: Any, default: Any) -> str | None:
    """Say in what a value differs from a default of another kind."""
    if default is None:
        return None
    got, wanted = Type.of_value(value), Type.of_value(default)
    is_alike = got.kind == wanted.kind or (got.kind, wanted.kind) == ("int64", "float64")
    if is_alike:
        return None
    return f"must be {wanted.in_words}, as its default {shown(default)} is, got {shown(value)}"
