"""The functions that an expression may call, what they take and give. There are no others.

How they do it: see `texts`, `lists` and `conversions`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .conversions import read_json, rounded, to_float, to_int, to_json
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
from .texts import like, numbers, on_text, replace, split, trim
from .types import ANY, BOOL, FLOAT, INT, TEXT, Type, joined
from .values import (
    Budget,
    as_text,
    bounded,
    contains,
    size_of,
)
from .wanted import Wanted

Gives: TypeAlias = Type | Callable[[list[Type]], Type]


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


def _default(_: Budget, value: Any, other: Any) -> Any:
    return other if value is None else value


def _coalesce(_: Budget, *values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _size(_: Budget, value: Any) -> int:
    return size_of(value)


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


def _rounded_type(arguments: list[Type]) -> Type:
    return INT if len(arguments) == 1 else _numeric(arguments)


_TEXTS = Type("list", item=TEXT)
_MANY = 32

FUNCTIONS: Mapping[str, Function] = {
    "len": Function(_size, ("sized",), INT, 1, 1),
    "lower": Function(on_text(str.lower), ("text",), TEXT, 1, 1),
    "upper": Function(on_text(str.upper), ("text",), TEXT, 1, 1),
    "trim": Function(trim, ("text",), TEXT, 1, 2),
    "replace": Function(replace, ("text",), TEXT, 3, 3),
    "split": Function(split, ("text",), _TEXTS, 1, 2),
    "words": Function(split, ("text",), _TEXTS, 1, 1),
    "join": Function(joined_texts, ("list", "text"), TEXT, 1, 2, has_attribute=True),
    "startswith": Function(on_text(str.startswith), ("text",), BOOL, 2, 2),
    "endswith": Function(on_text(str.endswith), ("text",), BOOL, 2, 2),
    "contains": Function(lambda budget, a, b: contains(a, b, budget), ("any",), BOOL, 2, 2),
    "like": Function(like, ("text",), BOOL, 2, 2),
    "numbers": Function(numbers, ("text",), Type("list", item=FLOAT), 1, 1),
    "round": Function(rounded, ("number", "integer"), _rounded_type, 1, 2),
    "abs": Function(lambda _, value: bounded(abs(value)), ("number",), _numeric, 1, 1),
    "int": Function(to_int, ("any",), INT, 1, 1),
    "float": Function(to_float, ("any",), FLOAT, 1, 1),
    "str": Function(lambda budget, value: as_text(value, budget), ("any",), TEXT, 1, 1),
    "bool": Function(lambda _, value: bool(value), ("any",), BOOL, 1, 1),
    "json": Function(read_json, ("text",), ANY, 1, 1),
    "tojson": Function(to_json, ("any",), TEXT, 1, 1),
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
