"""Whether a value is plain data, as JSON has it, and no more of it than there may be."""

import math
from collections.abc import Collection
from typing import Any

MAX_DEPTH = 64


def reason_against(value: Any, *, max_parts: int, max_chars: int) -> str | None:
    """Say why a value is no plain data, or too much; None if it is neither.

    It goes down without recursion. A list that stands in several places, or in itself, counts as
    often as it would be read.
    """
    num_parts = num_chars = 0
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        each, depth = todo.pop()
        num_parts += 1
        inner: Collection[Any] = ()
        match each:
            case str():
                num_chars += len(each)
            case dict():
                num_chars += sum(len(key) for key in each if isinstance(key, str))
                inner = each.values()
            case list() | tuple():
                inner = each
        if num_parts + len(inner) > max_parts or num_chars > max_chars:
            what = f"it is larger than {max_parts} values or {max_chars} characters"
            return f"{what}; data belongs in an input"
        if inner and depth > MAX_DEPTH:
            return f"it is nested more than {MAX_DEPTH} deep"
        reason = _own_reason(each)
        if reason is not None:
            return reason
        todo.extend((child, depth + 1) for child in inner)
    return None


def _own_reason(value: Any) -> str | None:
    """Say what is wrong with a value, whatever is in it."""
    match value:
        case None | bool() | list() | tuple():
            return None
        case str():
            return None if _is_text(value) else f"{value[:40]!a} holds what is no character"
        case int():
            num_bits = value.bit_length()
            return None if num_bits < 64 else f"a number has {num_bits} bits, more than 63"
        case float():
            return None if math.isfinite(value) else f"{value} is not a finite number"
        case dict():
            strange = next((key for key in value if not isinstance(key, str)), None)
            if strange is not None or None in value:
                return f"a key must be a text, got {str(strange)[:40]}"
            wrong = next((key for key in value if not _is_text(key)), None)
            return None if wrong is None else f"{wrong[:40]!a} holds what is no character"
        case _:
            return f"{str(value)[:40]!a} is no plain data, but a {type(value).__name__}"


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value
