"""What expressions do with lists: where numbers are wanted, nulls are left aside. No syntax."""

from collections.abc import Callable, Iterable
from typing import Any

from .errors import EvaluationError, shown
from .values import (
    Budget,
    as_text,
    bounded,
    compared,
    computed,
    field_of,
    is_number,
    weight_of,
)


def attributes(budget: Budget, items: list[Any], path: tuple[str, ...]) -> list[Any]:
    """Return the attribute of each item, such as the amounts of invoice lines."""
    budget.spend(len(items) * len(path))
    for name in path:
        items = [field_of(item, name) for item in items]
    return items


def picked(_: Budget, items: list[Any]) -> list[Any]:
    """Return the items; which attribute of them is meant has been seen to."""
    return items


def least(budget: Budget, *values: Any) -> Any:
    """Return the smallest of a list, or of several values; null of none."""
    return _extreme(budget, _several(values, "min"), lambda a, b: compared("<", a, b, budget))


def greatest(budget: Budget, *values: Any) -> Any:
    """Return the largest of a list, or of several values; null of none."""
    return _extreme(budget, _several(values, "max"), lambda a, b: compared(">", a, b, budget))


def total(budget: Budget, items: Iterable[Any]) -> int | float:
    """Add numbers; 0 of none."""
    found: int | float = 0
    for item in _numbers_of(items, "sum", budget):
        found = computed("+", found, item, budget)
    return found


def mean(budget: Budget, items: list[Any]) -> float | None:
    """Return the mean of numbers; null of none."""
    numbers = _numbers_of(items, "mean", budget)
    return computed("/", total(budget, numbers), len(numbers), budget) if numbers else None


def some(budget: Budget, items: list[Any]) -> bool:
    """Tell whether one of them is true."""
    budget.spend(len(items))
    return any(items)


def every(budget: Budget, items: list[Any]) -> bool:
    """Tell whether all of them are true."""
    budget.spend(len(items))
    return all(items)


def sort(budget: Budget, items: list[Any]) -> list[Any]:
    """Order numbers, or texts, from small to large; nulls come last."""
    budget.spend(weight_of(items, budget.left) + len(items) * len(items).bit_length())
    rest = [item for item in items if item is not None]
    if not (all(map(is_number, rest)) or all(isinstance(item, str) for item in rest)):
        raise EvaluationError("sort takes a list of numbers, or of texts")
    return sorted(rest) + [None] * (len(items) - len(rest))


def unique(budget: Budget, items: list[Any]) -> list[Any]:
    """Leave out those that came before."""
    budget.spend(weight_of(items, budget.left))
    return list({identity_of(item): item for item in reversed(items)}.values())[::-1]


def reverse(budget: Budget, items: list[Any]) -> list[Any]:
    """Turn a list round."""
    budget.spend(len(items))
    return items[::-1]


def joined_texts(budget: Budget, items: list[Any], separator: str = "") -> str:
    """Put texts and numbers one behind the other."""
    texts = [as_text(item, budget) for item in items]
    length = sum(map(len, texts)) + len(separator) * len(texts)
    budget.spend(length)
    return bounded(separator.join(texts))


def identity_of(value: Any) -> Any:
    """Return something that can be hashed, and is equal for values that are equal."""
    match value:
        case bool():
            return ("truth", value)
        case list():
            return ("list", tuple(identity_of(item) for item in value))
        case dict():
            return ("object", frozenset((key, identity_of(each)) for key, each in value.items()))
        case _:
            return value


def _several(values: tuple[Any, ...], name: str) -> list[Any]:
    first, *others = values
    if others:
        return list(values)
    if not isinstance(first, list):
        raise EvaluationError(f"{name} takes a list, or several values, got {shown(first)}")
    return first


def _extreme(budget: Budget, items: list[Any], is_better: Callable[[Any, Any], bool]) -> Any:
    best = None
    for item in items:
        budget.spend(1)
        if item is not None and (best is None or is_better(item, best)):
            best = item
    return best


def _numbers_of(items: Iterable[Any], name: str, budget: Budget) -> list[int | float]:
    numbers = [item for item in items if item is not None]
    budget.spend(len(numbers))
    for number in numbers:
        if not is_number(number):
            raise EvaluationError(f"{name} takes numbers, got {shown(number)}")
    return numbers
