"""Checks of one value each, in words that name it. Knows no parameter, only kinds and ranges."""

from math import isfinite
from typing import Any

MAX_INTEGER = 2**31 - 1  # of counts and token ids: tensors and messages have room for it


class InvalidSampling(ValueError):
    """A sampling parameter is out of range; `param` names it.

    What is wrong with a field of a parameter, as in "structured_outputs.choice", is told as that,
    and `param` is the parameter.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param} {message}")
        self.param = param.partition(".")[0]


def check_integer(name: str, value: object, *, low: int, high: int | None = None) -> None:
    """Refuse what is no integer from `low` to `high`; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidSampling(name, f"must be an integer, got {shown(value)}")
    if value < low:
        raise InvalidSampling(name, f"must be at least {low}, got {shown(value)}")
    if high is not None and value > high:
        raise InvalidSampling(name, f"must be at most {high}, got {shown(value)}")


def check_real(
    name: str, value: object, *, low: float, high: float, open_low: bool = False
) -> None:
    """Refuse what is no finite number from `low` to `high`, or above `low` if that is open."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSampling(name, f"must be a number, got {shown(value)}")
    if isinstance(value, float) and not isfinite(value):
        raise InvalidSampling(name, f"must be finite, got {value}")
    if value > high or value < low or (open_low and value == low):
        span = f"above {low:g} and at most {high:g}" if open_low else f"from {low:g} to {high:g}"
        raise InvalidSampling(name, f"must be {span}, got {shown(value)}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise InvalidSampling(name, f"must be true or false, got {shown(value)}")


def check_texts(name: str, values: tuple[Any, ...], *, at_most: int) -> None:
    """Refuse more than so many strings, empty ones, and what is no string."""
    if len(values) > at_most:
        raise InvalidSampling(name, f"takes at most {at_most} strings, got {len(values)}")
    for text in values:
        if not isinstance(text, str) or not text:
            raise InvalidSampling(name, f"must hold non-empty strings, got {shown(text)}")


def items(name: str, value: object) -> tuple[Any, ...]:
    """Return a list's items, none for None.

    Raises:
        InvalidSampling: it is no list.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidSampling(name, f"must be a list, got {shown(value)}")
    return tuple(value)


def shown(value: object) -> str:
    """Return a value as an error message can carry it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of over 4300 digits, or a nest without end
        return "a number too long to show" if isinstance(value, int) else "a value too deep to show"
    return text if len(text) <= 40 else text[:37] + "..."
