"""What Lua's values do, in Python: truth, numbers that are text, tables from 1, several results.

nil is None; a table is a dict, in which what is not there is nil. Numbers are int or float: every
number of the scripts is far below 2**53, where Lua's doubles are as exact as Python's ints.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any


class Table(dict[Any, Any]):
    """A table; a list has the keys 1, 2, 3 ..."""

    def __missing__(self, key: Any) -> None:
        return None


class Several(tuple[Any, ...]):
    """What a function returned that returned several values."""


def is_true(value: Any) -> bool:
    return value is not None and value is not False


def first(value: Any) -> Any:
    if type(value) is Several:
        return value[0] if value else None
    return value


def every(value: Any) -> tuple[Any, ...]:
    return value if type(value) is Several else (value,)


def results(*values: Any) -> Any:
    return Several(values)


def padded(count: int, *values: Any) -> tuple[Any, ...]:
    return (*values[:count], *(None,) * (count - len(values)))


def number(value: Any) -> int | float:
    if type(value) is int or type(value) is float:
        return value
    converted = tonumber(value)
    if converted is None:
        raise ValueError(f"arithmetic on {value!r}")
    return converted


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        raise ValueError(f"concatenation of {value!r}")
    return f"{value:.14g}"


def tonumber(value: Any) -> int | float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return None


def tostring(value: Any) -> str:
    return {None: "nil", True: "true", False: "false"}.get(value) or text(value)


def unpack(table: Table, start: int = 1, end: int | None = None) -> Several:
    return Several(table[place] for place in range(start, (len(table) if end is None else end) + 1))


def ipairs(table: Table) -> Iterator[tuple[int, Any]]:
    for place in range(1, len(table) + 1):
        if table[place] is None:
            return
        yield place, table[place]


def pairs(table: Table) -> Iterator[tuple[Any, Any]]:
    yield from list(table.items())


def steps(start: int, end: int, step: int = 1) -> range:
    return range(int(start), int(end) + (1 if step > 0 else -1), int(step))


def floor(value: Any) -> int:
    return math.floor(number(value))


def string_format(form: str, *values: Any) -> str:
    return form % tuple(int(v) if isinstance(v, float) and v == int(v) else v for v in values)


def string_match(subject: str, pattern: str) -> Any:
    match = _expression(pattern).search(subject)
    if match is None:
        return None
    return Several(match.groups()) if match.re.groups else match[0]


def string_gmatch(subject: str, pattern: str) -> Iterator[Any]:
    for match in _expression(pattern).finditer(subject):
        yield match.groups() if match.re.groups > 1 else match[match.re.groups]


def string_sub(subject: str, start: int, end: int = -1) -> str:
    first_place = start - 1 if start > 0 else max(len(subject) + start, 0)
    return subject[first_place : end if end >= 0 else len(subject) + end + 1]


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    """Translate a Lua pattern: %d is a digit, - a lazy *, and | { } are letters like any other."""
    classes = {"d": "[0-9]", "a": "[A-Za-z]", "w": "[A-Za-z0-9]", "s": r"\s"}
    written = ""
    at, in_set = 0, False
    while at < len(pattern):
        letter = pattern[at]
        if letter == "%":
            at += 1
            known = classes.get(pattern[at])
            letter = re.escape(pattern[at]) if known is None else known
            written += letter.strip("[]") if in_set and known else letter
        elif letter in "[]":
            in_set = letter == "["
            written += letter
        elif letter == "-" and not in_set:
            written += "*?"
        else:
            written += letter if letter in "^$()*+?.-" or in_set else re.escape(letter)
        at += 1
    return re.compile(written)


def _word(value: Any) -> str:
    """Write an argument as Redis gets it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        raise ValueError(f"redis.call was given {value!r}")
    return str(value) if isinstance(value, int) else f"{value:.17g}"


def _reply(value: Any) -> Any:
    """Read a reply as Lua gets it: what is not there is false."""
    if isinstance(value, list):
        return Table(enumerate(map(_reply, value), 1))
    return False if value is None else value


def _answer(value: Any) -> Any:
    """Write what a script returned as its caller gets it."""
    if isinstance(value, Table):
        answer = []
        for _, item in ipairs(value):
            answer.append(_answer(item))
        return answer
    if value is None or value is False:
        return None
    return value if isinstance(value, str) else int(value)


def answering(script: Callable[..., Any]) -> Callable[..., Any]:
    """Let a script call commands with Lua's values, and answer as Redis does."""

    def run(call: Callable[..., Any], keys: list[str], arguments: list[str]) -> Any:
        def converted(*words: Any) -> Any:
            reply = call(*[word if type(word) is str else _word(word) for word in words])
            return _reply(reply) if reply is None or type(reply) is list else reply

        tables = Table(enumerate(keys, 1)), Table(enumerate(arguments, 1))
        return _answer(first(script(converted, *tables)))

    return run


FUNCTIONS = {  # Lua's name -> ours
    "redis.call": "call",
    "ipairs": "ipairs",
    "math.floor": "floor",
    "math.max": "max",
    "math.min": "min",
    "pairs": "pairs",
    "string.format": "string_format",
    "string.gmatch": "string_gmatch",
    "string.match": "string_match",
    "string.sub": "string_sub",
    "tonumber": "tonumber",
    "tostring": "tostring",
    "unpack": "unpack",
}
SINGLE = frozenset(FUNCTIONS.values()) - {"string_match", "unpack"}  # these return one value
LIBRARY: dict[str, Any] = {
    **{each.__name__: each for each in (Table, every, first, floor, ipairs, is_true, number)},
    **{each.__name__: each for each in (padded, pairs, results, steps, string_format)},
    **{each.__name__: each for each in (string_gmatch, string_match, string_sub)},
    **{each.__name__: each for each in (text, tonumber, tostring, unpack)},
}
