"""What rendering a prompt may cost: the work of a row, and how much a value makes. Knows no filter.

A template's context carries its row's budget under a name that no template can say.
"""

from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

SPEND = "_budget"  # names with a leading underscore are out of a template's reach

MAX_WORK = 5_000_000  # characters touched and loop turns, per row
MAX_TEXT_CHARS = 1_000_000  # of any text made on the way


class Budget:
    """Work that is left for one row."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_WORK

    def spend(self, amount: int) -> None:
        """Take from it; raises when nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise SecurityError(f"it needs more than {MAX_WORK} steps for this row")


def budget_of(context: Context) -> Budget:
    """Return what is left for the row that is being rendered."""
    return context.parent[SPEND]


def size_of(value: Any) -> int:
    """Count the characters or items of a value; 0 for what has none."""
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 0


def weight_of(value: Any, limit: int) -> int:
    """Count what there is to look at in a value, all the way down; stops beyond `limit`."""
    weight, rest = 0, [value]
    while rest and weight <= limit:
        value = rest.pop()
        weight += 1 + size_of(value)
        if isinstance(value, list | tuple):
            rest.extend(value)
        elif isinstance(value, dict):
            rest.extend(value)
            rest.extend(value.values())
    return weight
