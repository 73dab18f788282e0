"""Reads JSON lines as rows, a line at a time. Knows no other format.

Of equal keys in one object the last one counts, as in most readers of JSON.
"""

import json
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

import msgspec

from .input_row import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    InputRow,
    RowTooLong,
    json_row,
    short_reason,
)
from .model import RejectedLine
from .text_lines import text_lines

_TRUNCATED = "Input data was truncated"  # what msgspec says of it


def read_json_lines(file: BinaryIO) -> Iterator[InputRow | RejectedLine]:
    """Read all lines that are not blank."""
    for line, text in text_lines(file, MAX_LINE_BYTES):
        if text is None:
            yield RejectedLine(line, str(RowTooLong()))
        elif text:
            yield read_json_line(line, text)


def read_json_line(line: int, text: bytes) -> InputRow | RejectedLine:
    """Read a line of JSON lines that is not blank."""
    try:
        return json_row(line, msgspec.json.decode(text))
    except RecursionError:
        return RejectedLine(line, f"is nested more than {MAX_DEPTH} levels deep")
    except (msgspec.DecodeError, ValueError) as error:
        return RejectedLine(line, f"is not JSON: {_reason(text, error)}")


class _NoNumber(ValueError):
    """NaN or an infinity, which Python writes and JSON does not have."""


def _reason(text: bytes, error: Exception) -> str:
    """Say why a line is not JSON; what Python's reader makes of it tells the usual mistakes."""
    said = short_reason(error)
    try:
        json.loads(text, parse_constant=_refused)
    except _NoNumber as mistake:
        return str(mistake)
    except (ValueError, RecursionError):
        is_open = said == _TRUNCATED and text.startswith((b"{", b"["))
        return "it ends before its object does; each row is one whole line" if is_open else said
    is_half = b"\\ud" in text.lower()
    return "a text holds half of a character, a lone surrogate" if is_half else said


def _refused(name: str) -> NoReturn:
    raise _NoNumber(f"{name} is no number there; write null")
