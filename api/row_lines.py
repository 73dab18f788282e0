"""Rows in memory as JSON lines. Knows what JSON has no word for, and no transport.

Dates and times become ISO 8601, decimals and UUIDs text, scalars and arrays of numpy what they are
in Python. What nothing can be said for is refused, by its row, from 0, and its column.
"""

import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time as time_of_day
from decimal import Decimal
from typing import Any
from uuid import UUID

from .client_errors import InvalidInput

_PIECE_BYTES = 64 << 10
_PIECE_S = 1.0  # rows that come slowly are not kept for longer


def json_lines(rows: Iterable[Any]) -> Iterator[bytes]:
    """Write rows, in pieces of some size, or of what a second brings.

    Raises:
        InvalidInput: a row cannot be written, or there is none.
    """
    lines = _Lines()
    for row in rows:
        if piece := lines.add(row):
            yield piece
    yield lines.end()


async def async_json_lines(rows: AsyncIterable[Any]) -> AsyncIterator[bytes]:
    """Write rows that come by and by; see `json_lines`."""
    lines = _Lines()
    async for row in rows:
        if piece := lines.add(row):
            yield piece
    yield lines.end()


def json_line(row: dict[str, Any], plain: Callable[[Any], Any] | None = None) -> bytes:
    """Write one row; `plain` says what a value is in JSON that has no form there.

    Raises:
        TypeError, ValueError: a value of it cannot be written.
    """
    text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=plain or plain_value)
    _check_keys(row)
    return text.encode("utf-8") + b"\n"


class _Lines:
    """Lines that gather until they make a piece."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._lines: list[bytes] = []
        self._num_bytes = 0
        self._begun_s = time.monotonic()

    def add(self, row: Any) -> bytes | None:
        line = _line(self._num_rows, row)
        self._num_rows += 1
        self._lines.append(line)
        self._num_bytes += len(line)
        if self._num_bytes < _PIECE_BYTES and time.monotonic() - self._begun_s < _PIECE_S:
            return None
        return self._take()

    def end(self) -> bytes:
        if not self._num_rows:
            raise InvalidInput("there are no rows to send; give a path or at least one dict")
        return self._take()

    def _take(self) -> bytes:
        piece = b"".join(self._lines)
        self._lines.clear()
        self._num_bytes, self._begun_s = 0, time.monotonic()
        return piece


def _line(number: int, row: Any) -> bytes:
    if not isinstance(row, Mapping):
        hint = '; send [{"prompt": text} for text in texts]' if isinstance(row, str) else ""
        raise InvalidInput(f"row {number} must be a mapping, got {type(row).__name__}{hint}")
    try:
        return json_line(row if isinstance(row, dict) else dict(row))
    except (TypeError, ValueError, RecursionError) as error:
        column, why = _culprit(row) or (None, str(error))
        where = f"row {number}" if column is None else f"row {number}, column {column!r},"
        raise InvalidInput(f"{where} cannot be written as JSON: {why}") from error


def _culprit(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Find the column that cannot be written, and say why."""
    for column, value in row.items():
        try:
            json_line({column: value})
        except (TypeError, ValueError, RecursionError) as error:
            why = str(error)
            if why.startswith("Out of range float"):
                why = f"{value!r:.40} is no number there; send None instead"
            return str(column), why
    return None


def _check_keys(value: Any) -> None:
    """Refuse keys that JSON would make text of: then `{1: …, "1": …}` has one of them twice."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text; send {str(key)!r}")
        value = value.values()
    for inner in value:
        if isinstance(inner, dict | list | tuple):
            _check_keys(inner)


def plain_value(value: Any) -> Any:
    """Say in JSON what it has no type for.

    Raises:
        TypeError: it cannot be said.
    """
    if isinstance(value, datetime | date | time_of_day):
        if value != value:  # pandas' NaT
            raise TypeError("NaT is no moment; send None instead")
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, Mapping):
        _check_keys(plain := dict(value))
        return plain
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes are no text; send them decoded, or as base64.b64encode(…).decode()")
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()  # an array, or a scalar
    raise TypeError(f"a {type(value).__name__} has no form there; send text, numbers, lists, dicts")
