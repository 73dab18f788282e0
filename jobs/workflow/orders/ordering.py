"""How values of any kind are put in order, and when two are equal. Knows no row.

numbers (true and false as 1 and 0) < texts < everything else, where null is
"""

import json
import math
from typing import Any, TypeAlias

Rank: TypeAlias = tuple[int, float | int | bytes]

_LAST: Rank = (2, 0)
_INT64 = range(-(2**63), 2**63)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def rank_of(value: Any) -> Rank:
    """Return what a value is ordered by; Python and SQLite order such pairs alike."""
    if isinstance(value, int):
        return 0, int(value) if value in _INT64 else float(max(-1e300, min(value, 1e300)))
    if isinstance(value, float):
        return _LAST if math.isnan(value) else (0, value)
    if isinstance(value, str):
        return 1, value.encode("utf-8", "surrogatepass")
    return _LAST


def is_ordered(value: Any) -> bool:
    """Whether a value can be larger than another."""
    return rank_of(value) != _LAST


def identity(values: list[Any]) -> str:
    """Return a text that is equal for equal values: 1 and 1.0 are, 1 and true are not."""
    return _ENCODER.encode([_plain(value) for value in values])


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value
