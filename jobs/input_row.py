"""What an input gives: rows, and the lines that cannot become rows. Knows no format, no file.

Only standard library when it runs, so that a light client can read as the server does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .model import RejectedLine

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LINE_BYTES = 16 << 20
MAX_DEPTH = 64  # of nested lists and objects; what reads the row later has a stack of its own
_LONGEST_REASON = 300  # characters


class UnreadableInput(ValueError):
    """The input as a whole cannot be read; the message names the cause."""


class RowTooLong(ValueError):
    """A row is more than a line of JSON may be."""

    def __init__(self) -> None:
        super().__init__(f"is longer than {MAX_LINE_BYTES >> 20} MiB")


@dataclass(frozen=True, slots=True)
class InputRow:
    """A row as it stands in the input.

    `line` counts from 1; in Parquet it counts rows, in a JSON array elements.
    """

    line: int
    row: dict[str, Any]


class InputRows(Iterator[InputRow | RejectedLine]):
    """The rows of an input, and the lines that cannot become rows, in turn.

    `arrow_schema` is what the input says of its columns; None if it is of a kind that says nothing.
    """

    def __init__(
        self, items: Iterator[InputRow | RejectedLine], arrow_schema: "pa.Schema | None" = None
    ) -> None:
        self.arrow_schema = arrow_schema
        self._items = items

    def __next__(self) -> InputRow | RejectedLine:
        """Return the next one."""
        return next(self._items)


def json_row(line: int, value: Any) -> InputRow | RejectedLine:
    """Make a row of what JSON said."""
    if isinstance(value, dict):
        if _is_deeper_than(MAX_DEPTH, value):
            return RejectedLine(line, f"is nested more than {MAX_DEPTH} levels deep")
        return InputRow(line, value)
    kind = "null" if value is None else type(value).__name__
    return RejectedLine(line, f"must be a JSON object with the row's columns, got {kind}")


def check_length(num_bytes: int) -> None:
    """Hold a row against the longest that there may be.

    Raises:
        RowTooLong: it is longer.
    """
    if num_bytes > MAX_LINE_BYTES:
        raise RowTooLong


def short_reason(error: Exception) -> str:
    """Return what an error says, on one line and not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."


def _is_deeper_than(limit: int, value: Any) -> bool:
    if not isinstance(value, dict | list):
        return False
    if limit == 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_is_deeper_than(limit - 1, item) for item in inner)
