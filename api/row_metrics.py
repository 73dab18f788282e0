"""When two answers are the same: four ways to look at a pair of values. Knows no row and no job."""

import json
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any

# Likeness is quadratic, so of a long text it looks at words instead of characters.
_MOST_CHARACTERS = 200
_MOST_WORDS = 300
_ALMOST = 0.999


class Metric(StrEnum):
    """What is asked of two values that are to be the same."""

    EXACT = "exact"
    NORMALIZED = "normalized"
    JSON = "json"
    SIMILARITY = "similarity"


def likeness(a: Any, b: Any, metric: Metric) -> float:
    """Say how alike two values are, from 0 to 1; only `similarity` knows anything in between.

    `normalized` overlooks case and spaces, `json` the spelling of a document, and `similarity` is
    difflib's ratio: of the characters of short texts, else of the first 300 words.
    """
    if metric is Metric.SIMILARITY:
        return _ratio(text_of(a), text_of(b))
    if metric is Metric.NORMALIZED:
        return float(_normalized(a) == _normalized(b))
    if metric is Metric.JSON:
        a, b = _document(a), _document(b)
    return float(_is_same(a, b))


def _is_same(a: Any, b: Any) -> bool:
    """Compare as JSON does: 1 and 1.0 are one number, and neither is `true`, as Python has it."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_same, a, b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _ratio(a: str, b: str) -> float:
    if max(len(a), len(b)) <= _MOST_CHARACTERS:
        return SequenceMatcher(None, a, b, autojunk=False).ratio()
    old, new = a.split(), b.split()
    matcher = SequenceMatcher(None, old[:_MOST_WORDS], new[:_MOST_WORDS], autojunk=False)
    return min(matcher.ratio(), 1.0 if old == new else _ALMOST)  # they may part further on


def _normalized(value: Any) -> str:
    return " ".join(text_of(value).split()).casefold()


def _document(value: Any) -> Any:
    """Read a document; a text that is none stands for itself."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def text_of(value: Any) -> str:
    """Write a value as it is compared."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
