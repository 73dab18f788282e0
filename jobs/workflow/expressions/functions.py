"""The functions that an expression may call, what they take and give. There are no others.

No regular expressions: whatever is looked for is found in time that grows with the text.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ...strict_json import NotJson, parse_json
from .errors import EvaluationError, shown
from .lists import (
    every,
    greatest,
    joined_texts,
    least,
    mean,
    picked,
    reverse,
    some,
    sort,
    total,
    unique,
)
from .types import ANY, BOOL, FLOAT, INT, TEXT, Type, joined
from .values import (
    MAX_TEXT_CHARS,
    MAX_VALUE_DEPTH,
    Budget,
    as_text,
    bounded,
    contains,
    depth_of,
    is_number,
    size_of,
    weight_of,
)

Wanted: TypeAlias = Literal["text", "number", "integer", "list", "numbers", "sized", "any"]
Gives: TypeAlias = Type | Callable[[list[Type]], Type]

IN_WORDS: Mapping[Wanted, str] = {
    "text": "a text",
    "number": "a number",
    "integer": "a whole number",
    "list": "a list",
    "numbers": "a list of numbers",
    "sized": "a text, a list or an object",
    "any": "anything",
}
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Function:
    """A function. `call` is given a budget and as many values as there are arguments.

    Attributes:
        wants: what its arguments must be; of more than these, the last goes on.
        gives: the type of its value, given those of its arguments.
        has_attribute: whether, of a list, it may look at an attribute of each item.
    """

    call: Callable[..., Any]
    wants: tuple[Wanted, ...]
    gives: Gives
    num_required: int
    num_allowed: int
    has_attribute: bool = False

    def type_of(self, arguments: list[Type]) -> Type:
        """Return the type of its value."""
        return self.gives if isinstance(self.gives, Type) else self.gives(arguments)

    def wanted(self, index: int) -> Wanted:
        """Return what its argument at that place must be."""
        return self.wants[min(index, len(self.wants) - 1)]


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


def _replace(budget: Budget, text: str, old: str, new: str) -> str:
    length = len(text) + text.count(old) * (len(new) - len(old))
    if length > MAX_TEXT_CHARS:
        raise EvaluationError(f"replace would make a text longer than {MAX_TEXT_CHARS}")
    budget.spend(len(text) + length)
    return text.replace(old, new)


def _split(budget: Budget, text: str, separator: str | None = None) -> list[str]:
    if separator == "":
        raise EvaluationError("split takes a separator that is not empty")
    budget.spend(len(text))
    return bounded(text.split(separator))


def _trim(budget: Budget, text: str, chars: str | None = None) -> str:
    budget.spend(len(text) * (1 if chars is None else 1 + len(chars)))
    return text.strip(chars)


def _numbers(budget: Budget, text: str) -> list[int | float]:
    """Return the numbers in a text, such as 7 and 10 of "7/10"."""
    budget.spend(len(text))
    found = [match[0] for match in _NUMBER.finditer(text)]
    numbers = (float(word) if "." in word or len(word) > 18 else int(word) for word in found)
    return bounded([bounded(number) for number in numbers])


def _like(budget: Budget, text: str, pattern: str) -> bool:
    """Match as SQL does: % stands for any characters, _ for one."""
    first, *pieces = pattern.split("%")
    budget.spend((len(text) + 1) * (len(pattern) + 1))
    if not pieces:
        return len(text) == len(first) and _is_piece(text, 0, first)
    *middle, last = pieces
    if len(first) + len(last) > len(text) or not _is_piece(text, 0, first):
        return False
    end = len(text) - len(last)
    if not _is_piece(text, end, last):
        return False
    position = len(first)
    for piece in middle:
        starts = range(position, end - len(piece) + 1)
        found = next((start for start in starts if _is_piece(text, start, piece)), None)
        if found is None:
            return False
        position = found + len(piece)
    return True


def _is_piece(text: str, start: int, piece: str) -> bool:
    if "_" not in piece:
        return text.startswith(piece, start)
    return all(want in ("_", text[start + index]) for index, want in enumerate(piece))


def _to_int(_: Budget, value: Any) -> int:
    if isinstance(value, str):
        value = _read_number(value)
    if not is_number(value):
        raise EvaluationError(f"int takes a number or its text, got {shown(value)}")
    return bounded(int(bounded(value)))


def _to_float(_: Budget, value: Any) -> float:
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


def _round(_: Budget, value: float, num_digits: int = 0) -> int | float:
    if num_digits == 0:
        return bounded(round(bounded(value)))
    return bounded(round(bounded(value), max(-18, min(18, num_digits))))


def _parse(budget: Budget, text: str) -> Any:
    budget.spend(len(text))
    try:
        value = parse_json(text.encode())
    except (NotJson, UnicodeEncodeError) as error:
        raise EvaluationError(f"it is no JSON: {str(error)[:80]}") from None
    if depth_of(value) > MAX_VALUE_DEPTH:
        raise EvaluationError(f"the JSON is nested more than {MAX_VALUE_DEPTH} deep")
    return value


def _to_json(budget: Budget, value: Any) -> str:
    budget.spend(weight_of(value, budget.left))
    return bounded(json.dumps(value, ensure_ascii=False, sort_keys=True))


def _default(_: Budget, value: Any, other: Any) -> Any:
    return other if value is None else value


def _coalesce(_: Budget, *values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _size(_: Budget, value: Any) -> int:
    return size_of(value)


def _on_text(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a method of texts that looks at each character once."""

    def call(budget: Budget, text: str, *others: str) -> Any:
        budget.spend(len(text))
        return bounded(method(text, *others))

    return call


def _item(arguments: list[Type]) -> Type:
    return (arguments[0].item or ANY).without_values()


def _least_type(arguments: list[Type]) -> Type:
    return _item(arguments) if len(arguments) == 1 else joined(arguments).without_values()


def _sum_type(arguments: list[Type]) -> Type:
    item = _item(arguments)
    return {"int64": INT, "bool": INT, "float64": FLOAT}.get(item.kind, ANY)


def _same_list(arguments: list[Type]) -> Type:
    return Type("list", item=arguments[0].item)


def _numeric(arguments: list[Type]) -> Type:
    kind = arguments[0].kind
    return INT if kind in ("int64", "bool") else FLOAT if kind == "float64" else ANY


def _rounded(arguments: list[Type]) -> Type:
    return INT if len(arguments) == 1 else _numeric(arguments)


_TEXTS = Type("list", item=TEXT)
_MANY = 32

FUNCTIONS: Mapping[str, Function] = {
    "len": Function(_size, ("sized",), INT, 1, 1),
    "lower": Function(_on_text(str.lower), ("text",), TEXT, 1, 1),
    "upper": Function(_on_text(str.upper), ("text",), TEXT, 1, 1),
    "trim": Function(_trim, ("text",), TEXT, 1, 2),
    "replace": Function(_replace, ("text",), TEXT, 3, 3),
    "split": Function(_split, ("text",), _TEXTS, 1, 2),
    "words": Function(_split, ("text",), _TEXTS, 1, 1),
    "join": Function(joined_texts, ("list", "text"), TEXT, 1, 2, has_attribute=True),
    "startswith": Function(_on_text(str.startswith), ("text",), BOOL, 2, 2),
    "endswith": Function(_on_text(str.endswith), ("text",), BOOL, 2, 2),
    "contains": Function(lambda budget, a, b: contains(a, b, budget), ("any",), BOOL, 2, 2),
    "like": Function(_like, ("text",), BOOL, 2, 2),
    "numbers": Function(_numbers, ("text",), Type("list", item=FLOAT), 1, 1),
    "round": Function(_round, ("number", "integer"), _rounded, 1, 2),
    "abs": Function(lambda _, value: bounded(abs(value)), ("number",), _numeric, 1, 1),
    "int": Function(_to_int, ("any",), INT, 1, 1),
    "float": Function(_to_float, ("any",), FLOAT, 1, 1),
    "str": Function(lambda budget, value: as_text(value, budget), ("any",), TEXT, 1, 1),
    "bool": Function(lambda _, value: bool(value), ("any",), BOOL, 1, 1),
    "json": Function(_parse, ("text",), ANY, 1, 1),
    "tojson": Function(_to_json, ("any",), TEXT, 1, 1),
    "coalesce": Function(_coalesce, ("any",), joined, 1, _MANY),
    "default": Function(_default, ("any",), joined, 2, 2),
    "exists": Function(lambda _, value: value is not None, ("any",), BOOL, 1, 1),
    "is_null": Function(lambda _, value: value is None, ("any",), BOOL, 1, 1),
    "min": Function(least, ("any",), _least_type, 1, _MANY, has_attribute=True),
    "max": Function(greatest, ("any",), _least_type, 1, _MANY, has_attribute=True),
    "sum": Function(total, ("numbers",), _sum_type, 1, 1, has_attribute=True),
    "mean": Function(mean, ("numbers",), FLOAT, 1, 1, has_attribute=True),
    "any": Function(some, ("list",), BOOL, 1, 1, has_attribute=True),
    "all": Function(every, ("list",), BOOL, 1, 1, has_attribute=True),
    "first": Function(lambda _, items: items[0] if items else None, ("list",), _item, 1, 1),
    "last": Function(lambda _, items: items[-1] if items else None, ("list",), _item, 1, 1),
    "sort": Function(sort, ("list",), _same_list, 1, 1, has_attribute=True),
    "unique": Function(unique, ("list",), _same_list, 1, 1),
    "reverse": Function(reverse, ("list",), _same_list, 1, 1),
    "map": Function(picked, ("list",), _same_list, 1, 1, has_attribute=True),
}
FILTER_NAMES: Mapping[str, str] = {  # what Jinja calls them, where that is another name
    "length": "len",
    "count": "len",
    "d": "default",
    "string": "str",
}
