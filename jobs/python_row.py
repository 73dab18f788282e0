"""Makes a row of Python's values: dates as text, bytes as base64, NaN as null. Knows no format."""

from typing import Any

import msgspec

from .input_row import InputRow, RowTooLong, check_length, json_row, short_reason
from .model import RejectedLine

_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)


def python_row(line: int, value: Any) -> InputRow | RejectedLine:
    """Make a row of a dictionary, unless JSON has no words for it."""
    try:
        text = msgspec.json.encode(value)
        check_length(len(text))
        return json_row(line, msgspec.json.decode(text))
    except RowTooLong as error:
        return RejectedLine(line, str(error))
    except _UNWRITABLE as error:
        return unwritable(line, error, _unwritable_column(value))


def unwritable(line: int, error: Exception, column: str | None) -> RejectedLine:
    """Say of a row that JSON has no words for it, and in which column, if that is known."""
    where = "" if column is None else f"column {column!r:.80}: "
    return RejectedLine(line, f"cannot be written as JSON: {where}{short_reason(error)}")


def _unwritable_column(value: Any) -> str | None:
    """Find the first column of a row that cannot be written by itself."""
    for name, cell in value.items() if isinstance(value, dict) else ():
        try:
            msgspec.json.decode(msgspec.json.encode(cell))
        except _UNWRITABLE:
            return str(name)
    return None
