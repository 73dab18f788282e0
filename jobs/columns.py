"""Which type each of the user's columns has, learnt row by row while the input streams past."""

from typing import Any

from .model import ColumnType

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class ColumnTypes:
    """The narrowest type that holds every value seen in a column.

    null < bool | int64 < float64 | string < json; a column of nulls only becomes a string.
    """

    def __init__(self) -> None:
        self._types: dict[str, ColumnType | None] = {}

    def __len__(self) -> int:
        """Return how many columns there are so far."""
        return len(self._types)

    def add(self, row: dict[str, Any]) -> None:
        """Take a row into account."""
        for column, value in row.items():
            kind = _type_of(value)
            known = self._types.setdefault(column, kind)
            if known is not kind:
                self._types[column] = _widened(known, kind)

    def settled(self) -> dict[str, ColumnType]:
        """Return the types, in the order in which the columns first came."""
        return {column: kind or ColumnType.STRING for column, kind in self._types.items()}


def _type_of(value: Any) -> ColumnType | None:
    match value:
        case None:
            return None
        case bool():
            return ColumnType.BOOL
        case int():
            return ColumnType.INT if _INT64_MIN <= value <= _INT64_MAX else ColumnType.JSON
        case float():
            return ColumnType.FLOAT
        case str():
            return ColumnType.STRING
        case _:
            return ColumnType.JSON


def _widened(a: ColumnType | None, b: ColumnType | None) -> ColumnType | None:
    if a is None or b is None:
        return a or b
    if {a, b} == {ColumnType.INT, ColumnType.FLOAT}:
        return ColumnType.FLOAT
    return ColumnType.JSON
