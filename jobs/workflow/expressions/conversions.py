"""From one kind of value to another: numbers out of texts, JSON both ways. Knows no syntax."""

import json
from typing import Any

from ...strict_json import NotJson, parse_json
from .errors import EvaluationError, shown
from .values import MAX_VALUE_DEPTH, Budget, bounded, depth_of, is_number, weight_of


def to_int(_: Budget, value: Any) -> int:
    """Make a whole number of a number, by cutting, or of the text of one."""
    if isinstance(value, str):
        value = _read_number(value)
    if not is_number(value):
        raise EvaluationError(f"int takes a number or its text, got {shown(value)}")
    return bounded(int(bounded(value)))


def to_float(_: Budget, value: Any) -> float:
    """Make a number of another, or of the text of one."""
    if isinstance(value, str):
        value = _read_number(value)
    if not is_number(value):
        raise EvaluationError(f"float takes a number or its text, got {shown(value)}")
    return bounded(float(bounded(value)))


def _read_number(text: str) -> int | float:
    word = text.strip()
    try:
        if len(word) <= 64 and word.isascii() and "_" not in word:
            return int(word) if word.lstrip("+-").isdigit() else float(word)
    except ValueError:
        pass  # no number: said below, with the text
    raise EvaluationError(f"{shown(text)} is not a number; numbers(x) finds those in a text")


def rounded(_: Budget, value: float, num_digits: int = 0) -> int | float:
    """Round to so many digits; to none it is a whole number."""
    if num_digits == 0:
        return bounded(round(bounded(value)))
    return bounded(round(bounded(value), max(-18, min(18, num_digits))))


def read_json(budget: Budget, text: str) -> Any:
    """Read a text as JSON, not nested too deep."""
    budget.spend(len(text))
    try:
        value = parse_json(text.encode())
    except (NotJson, UnicodeEncodeError) as error:
        raise EvaluationError(f"it is no JSON: {str(error)[:80]}") from None
    if depth_of(value) > MAX_VALUE_DEPTH:
        raise EvaluationError(f"the JSON is nested more than {MAX_VALUE_DEPTH} deep")
    return value


def to_json(budget: Budget, value: Any) -> str:
    """Write a value as JSON; the same value is always the same text."""
    budget.spend(weight_of(value, budget.left))
    return bounded(json.dumps(value, ensure_ascii=False, sort_keys=True))
