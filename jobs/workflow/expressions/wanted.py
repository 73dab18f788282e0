"""What a function may want of an argument: of its value in a row, and of its type beforehand.

Knows no function.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from .types import ANY, Type
from .values import is_number

Wanted: TypeAlias = Literal["text", "number", "integer", "list", "numbers", "sized", "any"]

IN_WORDS: Mapping[Wanted, str] = {
    "text": "a text",
    "number": "a number",
    "integer": "a whole number",
    "list": "a list",
    "numbers": "a list of numbers",
    "sized": "a text, a list or an object",
    "any": "anything",
}


def is_wanted(wanted: Wanted, value: Any) -> bool:
    """Tell whether a value may be given to a function."""
    match wanted:
        case "text":
            return isinstance(value, str)
        case "number":
            return is_number(value)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "list" | "numbers":
            return isinstance(value, list)
        case "sized":
            return isinstance(value, str | list | dict)
        case "any":
            return True


def may_be_wanted(wanted: Wanted, given: Type) -> bool:
    """Tell whether a value of some type may be one that a function takes."""
    match wanted:
        case _ if given.kind in ("any", "null"):
            return True
        case "text":
            return given.kind == "string"
        case "number":
            return given.is_number
        case "integer":
            return given.kind in ("int64", "float64")
        case "list":
            return given.kind in ("list", "vector")
        case "numbers":
            item = given.item or ANY
            is_number = item.is_number or item.kind in ("any", "null")
            return given.kind in ("list", "vector") and is_number
        case "sized":
            return given.kind in ("string", "list", "vector", "object")
        case "any":
            return True
