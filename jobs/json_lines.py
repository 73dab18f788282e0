"""Reads JSON lines as rows, a line at a time. Knows no other format.

Of equal keys in one object the last one counts, as in most readers of JSON.
"""

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from .input_row import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    InputRow,
    RowTooLong,
    json_row,
    short_reason,
)
from .json_elements import BOM
from .model import RejectedLine


def read_json_lines(file: BinaryIO) -> Iterator[InputRow | RejectedLine]:
    """Read all lines that are not blank."""
    for line, text in _lines(file):
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
        return RejectedLine(line, f"is not JSON: {short_reason(error)}")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield numbered, stripped lines; None for one that is too long to be held."""
    line = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        if line == 1:
            text = text.removeprefix(BOM)
        if len(text) > MAX_LINE_BYTES and not text.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield line, None
        else:
            yield line, text.strip()
