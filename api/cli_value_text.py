"""How a value of any kind is written into a cell of a table. Knows no row and no step."""

from collections.abc import Mapping
from typing import Any

from .cli_output import short_vector

_VECTOR = 8  # numbers that nobody reads one by one


def value_text(value: Any) -> Any:
    """Write a document as its fields, and a vector by its beginning; leave others as they are."""
    if isinstance(value, Mapping) and value:
        return ", ".join(f"{name}: {value_text(item)}" for name, item in value.items())
    if isinstance(value, list) and len(value) >= _VECTOR:
        numbers = [number for number in value if isinstance(number, float)]
        return short_vector(numbers) if len(numbers) == len(value) else value
    return value
