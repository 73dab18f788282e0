"""How the values of a group become one, taken in one by one. Knows no row and no syntax."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from .errors import EvaluationError, shown
from .lists import identity_of
from .values import Budget, bounded, compared, computed, is_number, weight_of

MAX_LISTED = 10_000
MAX_WEIGHT = 4_000_000  # characters and items that one group may keep
MAX_DISTINCT = 100_000


class Fold(Protocol):
    """Takes in a group's values."""

    def add(self, value: Any) -> None:
        """Take in one more."""
        ...

    def result(self) -> Any:
        """Return what they have become."""
        ...


class _Count:
    def __init__(self) -> None:
        self._count = 0

    def add(self, value: Any) -> None:
        self._count += 1

    def result(self) -> int:
        return self._count


class _Sum:
    def __init__(self) -> None:
        self._total: int | float = 0

    def add(self, value: Any) -> None:
        if value is None:
            return
        if not is_number(value):
            raise EvaluationError(f"it adds numbers, got {shown(value)}")
        self._total = computed("+", self._total, value, Budget())

    def result(self) -> int | float:
        return self._total


class _Mean:
    def __init__(self) -> None:
        self._sum = _Sum()
        self._count = 0

    def add(self, value: Any) -> None:
        self._sum.add(value)
        self._count += value is not None

    def result(self) -> float | None:
        return bounded(self._sum.result() / self._count) if self._count else None


class _Extreme:
    def __init__(self, operator: Literal["<", ">"]) -> None:
        self._operator: Literal["<", ">"] = operator
        self._best: Any = None

    def add(self, value: Any) -> None:
        if value is None:
            return
        if self._best is None or compared(self._operator, value, self._best, Budget()):
            self._best = value

    def result(self) -> Any:
        return self._best


class _Any:
    def __init__(self) -> None:
        self._holds = False

    def add(self, value: Any) -> None:
        self._holds = self._holds or bool(value)

    def result(self) -> bool:
        return self._holds


class _All:
    def __init__(self) -> None:
        self._holds = True

    def add(self, value: Any) -> None:
        self._holds = self._holds and bool(value)

    def result(self) -> bool:
        return self._holds


class _Listed:
    def __init__(self) -> None:
        self._values: list[Any] = []
        self._weight = 0

    def add(self, value: Any) -> None:
        self._weight += weight_of(value, MAX_WEIGHT)
        if len(self._values) >= MAX_LISTED or self._weight > MAX_WEIGHT:
            raise EvaluationError(
                f"a list of a group may have {MAX_LISTED} items and {MAX_WEIGHT} characters"
            )
        self._values.append(value)

    def result(self) -> list[Any]:
        return list(self._values)


class _Majority:
    """The value that comes most often; of several, the one that came first."""

    def __init__(self) -> None:
        self._counts: dict[Any, int] = {}
        self._values: dict[Any, Any] = {}
        self._weight = 0

    def add(self, value: Any) -> None:
        if value is None:
            return
        identity = identity_of(value)
        if identity not in self._counts:
            self._weight += weight_of(value, MAX_WEIGHT)
            if len(self._counts) >= MAX_DISTINCT or self._weight > MAX_WEIGHT:
                raise EvaluationError(
                    f"a majority is sought of at most {MAX_DISTINCT} different values"
                )
            self._values[identity] = value
        self._counts[identity] = self._counts.get(identity, 0) + 1

    def result(self) -> Any:
        if not self._counts:
            return None
        return self._values[max(self._counts, key=lambda identity: self._counts[identity])]


class _First:
    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if not self._values:
            self._values.append(value)

    def result(self) -> Any:
        return self._values[0] if self._values else None


class _Last(_First):
    def add(self, value: Any) -> None:
        self._values[:] = [value]


FOLDS: Mapping[str, Callable[[], Fold]] = {
    "count": _Count,
    "sum": _Sum,
    "mean": _Mean,
    "min": lambda: _Extreme("<"),
    "max": lambda: _Extreme(">"),
    "any": _Any,
    "all": _All,
    "list": _Listed,
    "majority": _Majority,
    "first": _First,
    "last": _Last,
}
