"""Opens an input of JSON lines, CSV, TSV, Parquet or a JSON array. Knows no job; reads in pieces.

A line that cannot become a row is reported and passed over: one bad line spoils no other. What is
no such file at all, or has a quote that swallows lines, is refused as a whole.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .csv_rows import read_csv
from .input_format import FORMATS, HEAD_BYTES, SAY_FORMAT, foreign_to, format_of
from .input_row import InputRow, InputRows, UnreadableInput
from .json_array import read_json_array
from .json_elements import begins_array
from .json_lines import read_json_lines
from .model import RejectedLine
from .object_store import ObjectStore, StorePlace, StoreUnavailable
from .parquet_rows import read_parquet
from .python_row import python_row

__all__ = [
    "InputRow",
    "InputRows",
    "UnreadableInput",
    "open_file",
    "open_input",
    "open_object",
    "rows_input",
]


def open_input(
    source: Path | str | BinaryIO, format: str | None = None, *, filename: str | None = None
) -> InputRows:
    """Read a file, or an open binary file, row by row; blank lines are not there.

    Without `format` the suffix of the path or of `filename` decides, else the first bytes. An
    input that cannot be read is found out at once, not at the first row.

    Raises:
        UnreadableInput: it cannot be opened, is of no known format, or breaks off.
    """
    if format is not None and format not in FORMATS:
        raise UnreadableInput(f"unknown format {format!r}: use {', '.join(FORMATS)}")
    if isinstance(source, Path | str):
        file = open_file(source)
        return _closing(file, _open(file, format, filename or Path(source).name))
    return _open(source, format, filename or "")


def open_file(path: Path | str) -> BinaryIO:
    """Open a file of this machine; what is none, and might never end, is refused without waiting.

    Raises:
        UnreadableInput: it cannot be opened, or is a pipe or a device.
    """
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - whoever asked for it closes it
    except OSError as error:
        raise UnreadableInput(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise UnreadableInput(f"cannot read {str(path)[:60]!r}: {error}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnreadableInput(
            f"cannot read {path}: it is a pipe or a device; write the rows to a file first"
        )
    return file


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for who writes to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def open_object(url: str, endpoint: str | None, format: str | None = None) -> InputRows:
    """Read an object of a store as `open_input` reads a file: piece by piece, never all of it.

    Raises:
        UnreadableInput: it cannot be opened, is of no known format, or breaks off.
    """
    try:
        file = ObjectStore(StorePlace.parse(url), endpoint).open()
    except (ValueError, StoreUnavailable) as error:
        raise UnreadableInput(str(error)) from error
    return _closing(file, open_input(file, format, filename=Path(url).name))


def rows_input(rows: Iterable[Any]) -> InputRows:
    """Read rows that are in memory already, as JSON lines would be read."""
    return InputRows(python_row(line, row) for line, row in enumerate(rows, 1))


def _closing(file: BinaryIO, rows: InputRows) -> InputRows:
    def closing() -> Iterator[InputRow | RejectedLine]:
        with file:
            yield from rows

    return InputRows(closing(), rows.arrow_schema)


def _open(file: BinaryIO, format: str | None, name: str) -> InputRows:
    name = name or "the input"
    if not file.seekable():
        raise UnreadableInput(f"cannot read {name}: it is a stream; write it to a file first")
    start = file.tell()
    head = file.read(HEAD_BYTES)
    file.seek(start)
    format = format or format_of(name, head)
    if reason := foreign_to(format, head):
        raise UnreadableInput(f"cannot read {name}: {reason}")
    match format:
        case "jsonl" if begins_array(head):
            return InputRows(read_json_array(file, name))
        case "jsonl":
            return InputRows(read_json_lines(file))
        case "csv" | "tsv":
            return InputRows(read_csv(file, name, "\t" if format == "tsv" else ","))
        case "parquet":
            return read_parquet(file, name)
        case _:
            raise UnreadableInput(f"cannot tell the format of {name}: {SAY_FORMAT}")
