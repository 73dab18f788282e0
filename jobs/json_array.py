"""Reads a JSON array of objects as rows, an element at a time. Knows no other format."""

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from .input_row import MAX_LINE_BYTES, InputRow, RowTooLong, UnreadableInput
from .json_elements import BrokenArray, elements
from .json_lines import read_json_line
from .model import RejectedLine


def read_json_array(file: BinaryIO, name: str) -> Iterator[InputRow | RejectedLine]:
    """Read all elements of an input that is called so in messages. `line` counts them, from 1.

    Raises:
        UnreadableInput: the array breaks off, or something stands behind it.
    """
    try:
        for number, element in enumerate(elements(file, MAX_LINE_BYTES), 1):
            if element.text is None:
                read = RejectedLine(number, str(RowTooLong()))
            else:
                read = read_json_line(number, element.text)
            if isinstance(read, RejectedLine):
                place = f"elements count as lines; this one begins in line {element.line}"
                read = replace(read, message=f"{read.message} ({place} of the file)")
            yield read
    except BrokenArray as error:
        raise UnreadableInput(f"cannot read {name}: {error}") from error
