"""How values are compared, added and weighed in an expression, each at a price. Knows no syntax.

null is equal to null only, not less and not greater than anything; nothing can be computed with it.
Numbers and texts are never mixed; true and false count as 1 and 0, but are not equal to them.
"""

import math
from collections.abc import Callable, Mapping
from operator import add, floordiv, ge, gt, le, lt, mod, mul, sub, truediv
from typing import Any, TypeGuard

from .errors import EvaluationError, shown
from .tree import Arithmetic, Comparison

MAX_WORK = 2_000_000  # parts of expressions, characters and items touched, per evaluation
MAX_TEXT_CHARS = 1_000_000
MAX_ITEMS = 100_000
MAX_VALUE_DEPTH = 64
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
    "//": floordiv,
    "%": mod,
}
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


class Budget:
    """Work that is left for one evaluation."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_WORK

    def spend(self, amount: int) -> None:
        """Take from it; raises when nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise EvaluationError(f"it needs more than {MAX_WORK} steps for this row")


def is_number(value: Any) -> TypeGuard[int | float]:
    """Tell whether it can be computed with."""
    return isinstance(value, int | float)


def size_of(value: Any) -> int:
    """Return how many characters, items or fields it has."""
    return len(value) if isinstance(value, str | list | tuple | dict) else 1


def bounded(value: Any) -> Any:
    """Return a value that was made, unless it is larger than one may be.

    Raises:
        EvaluationError: it is.
    """
    match value:
        case bool():
            return value
        case int() if not _INT64_MIN <= value <= _INT64_MAX:
            raise EvaluationError("the result is a number of more than 64 bits")
        case float() if not math.isfinite(value):
            raise EvaluationError("the result is not a finite number")
        case str() if len(value) > MAX_TEXT_CHARS:
            raise EvaluationError(f"the result is a text longer than {MAX_TEXT_CHARS}")
        case list() if len(value) > MAX_ITEMS:
            raise EvaluationError(f"the result is a list longer than {MAX_ITEMS}")
    return value


def computed(operator: Arithmetic, left: Any, right: Any, budget: Budget) -> Any:
    """Compute an operator.

    Raises:
        EvaluationError: it has no value for these two.
    """
    if operator == "~":
        return bounded(as_text(left, budget) + as_text(right, budget))
    both = (left, right)
    if is_number(left) and is_number(right):
        if any(isinstance(each, int) and each.bit_length() > 64 for each in both):
            raise EvaluationError("a number has more than 64 bits")
        try:
            return bounded(_ARITHMETIC[operator](left, right))
        except ZeroDivisionError:
            raise EvaluationError(f"{operator} by zero") from None
        except OverflowError:
            raise EvaluationError("the result is not a finite number") from None
    if operator == "+":
        budget.spend(size_of(left) + size_of(right))
        if isinstance(left, str) and isinstance(right, str):
            return bounded(left + right)
        if isinstance(left, list) and isinstance(right, list):
            return bounded(left + right)
    raise EvaluationError(f"{operator} does not work on {shown(left)} and {shown(right)}")


def compared(operator: Comparison, left: Any, right: Any, budget: Budget) -> bool:
    """Compare two values.

    Raises:
        EvaluationError: they have no order.
    """
    match operator:
        case "==":
            return are_equal(left, right, budget)
        case "!=":
            return not are_equal(left, right, budget)
        case "in":
            return contains(right, left, budget)
        case "not in":
            return right is not None and not contains(right, left, budget)
    if left is None or right is None:
        return False
    if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
        budget.spend(min(size_of(left), size_of(right)))
        return _ORDER[operator](left, right)
    raise EvaluationError(f"{shown(left)} and {shown(right)} have no order")


def are_equal(left: Any, right: Any, budget: Budget) -> bool:
    """Tell whether two values are the same, all the way down; true is not 1, but 1.0 is."""
    if not isinstance(left, list | dict):  # by far the most
        return _are_scalars_equal(left, right, budget)
    todo = [(left, right)]
    while todo:
        a, b = todo.pop()
        if isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            todo.extend(zip(a, b, strict=True))
        elif isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            todo.extend((a[key], b[key]) for key in a)
        elif not _are_scalars_equal(a, b, budget):
            return False
        budget.spend(1)
    return True


def _are_scalars_equal(left: Any, right: Any, budget: Budget) -> bool:
    budget.spend(4 + (min(len(left), size_of(right)) if isinstance(left, str) else 0))
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def contains(whole: Any, part: Any, budget: Budget) -> bool:
    """Tell whether a text holds a text, a list an item, an object a field; null holds nothing.

    Raises:
        EvaluationError: the one cannot hold the other.
    """
    match whole:
        case None:
            return False
        case str() if isinstance(part, str):
            budget.spend(len(whole))
            return part in whole
        case str() if part is None:
            return False
        case list():
            return any(are_equal(item, part, budget) for item in whole)
        case dict() if isinstance(part, str):
            return part in whole
    raise EvaluationError(f"{shown(part)} cannot be in {shown(whole)}")


def field_of(value: Any, key: Any) -> Any:
    """Return a field of an object, an item of a list, a character of a text; null if it has none.

    Raises:
        EvaluationError: such a value has nothing of the kind.
    """
    match value, key:
        case None, _:
            return None
        case dict(), str():
            return value.get(key)
        case ((list() | str()), int()) if not isinstance(key, bool):
            return value[key] if -len(value) <= key < len(value) else None
    raise EvaluationError(f"{shown(value)} has no {shown(key)}")


def as_text(value: Any, budget: Budget) -> str:
    """Write a number, or a truth, as a text.

    Raises:
        EvaluationError: it has no one way to be written.
    """
    if value is None or isinstance(value, list | dict):
        raise EvaluationError(f"{shown(value)} is no text; see json and default")
    match value:
        case bool():
            text = "true" if value else "false"
        case _:
            text = str(value)
    budget.spend(len(text))
    return text


def weight_of(value: Any, limit: int) -> int:
    """Count what there is to look at in a value, all the way down; stops beyond `limit`."""
    weight, todo = 0, [value]
    while todo and weight <= limit:
        each = todo.pop()
        weight += 1 + (len(each) if isinstance(each, str) else 0)
        if isinstance(each, list):
            todo.extend(each)
        elif isinstance(each, dict):
            weight += sum(map(len, each))
            todo.extend(each.values())
    return weight


def depth_of(value: Any) -> int:
    """Return how deep lists and objects are nested in a value."""
    deepest, todo = 0, [(value, 0)]
    while todo:
        each, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(each, list | dict):
            inner = each if isinstance(each, list) else each.values()
            todo.extend((child, depth + 1) for child in inner)
    return deepest
