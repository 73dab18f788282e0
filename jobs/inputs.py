"""Opens an input, whatever its format: JSON, CSV or Parquet. Knows no job; reads in pieces.

A line that cannot become a row is reported and passed over: one bad line spoils no other. What is
no such file at all is refused as a whole.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from .csv_rows import read_csv
from .input_row import InputRow, InputRows, UnreadableInput, python_row
from .json_array import read_json_array
from .json_elements import BOM, begins_array
from .json_lines import read_json_lines
from .model import RejectedLine
from .object_store import ObjectStore, StorePlace, StoreUnavailable
from .parquet_rows import read_parquet

__all__ = [
    "InputRow",
    "InputRows",
    "UnreadableInput",
    "open_file",
    "open_input",
    "open_object",
    "rows_input",
]

Format = Literal["jsonl", "parquet", "csv", "tsv"]

_HEAD_BYTES = 4096
_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
_PARQUET_MAGIC = b"PAR1"
_PARQUET_BEGINS = _PARQUET_MAGIC + b"\x15"  # a page's header: no text begins so
_FOREIGN = {
    b"\x1f\x8b": "it is compressed with gzip: decompress it first",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd: decompress it first",
    b"BZh": "it is compressed with bzip2: decompress it first",
    b"\xfd7zXZ\x00": "it is compressed with xz: decompress it first",
    b"PK\x03\x04": "it is a ZIP archive or a spreadsheet: export it as CSV",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet or a document of Office: export it as CSV",
    b"ARROW1\x00\x00": "it is an Arrow or Feather file: write it as Parquet",
    b"SQLite format 3\x00": "it is an SQLite database: export a table of it as CSV",
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
}


def open_input(
    source: Path | str | BinaryIO, format: str | None = None, *, filename: str | None = None
) -> InputRows:
    """Read a file, or an open binary file, row by row; blank lines are not there.

    Without `format` the suffix of the path or of `filename` decides, else the first bytes. An
    input that cannot be read is found out at once, not at the first row.

    Raises:
        UnreadableInput: it cannot be opened, is of no known format, or breaks off.
    """
    if format is not None and format not in get_args(Format):
        raise UnreadableInput(f"unknown format {format!r}: use jsonl, parquet, csv or tsv")
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
    head = file.read(_HEAD_BYTES)
    file.seek(start)
    format = format or _FORMAT_OF_SUFFIX.get(Path(name).suffix.lower()) or _sniffed(head)
    if reason := _foreign(head, format):
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
            raise UnreadableInput(
                f"cannot tell the format of {name}: name it .jsonl, .csv, .tsv or .parquet, "
                "or say format"
            )


def _foreign(head: bytes, format: str | None) -> str | None:
    """Tell from the first bytes why this cannot be an input of the format; None if it may be."""
    if not head:
        return "it is empty"
    for magic, reason in _FOREIGN.items():
        if head.startswith(magic):
            return reason
    if format in ("jsonl", "csv", "tsv"):
        if head.startswith(_PARQUET_BEGINS):
            return "it is Parquet, whatever its name says: name it .parquet, or say format"
        if head[:4].count(0) >= 2:  # UTF-16 may not say so
            return "it holds zero bytes, as UTF-16 does: save it as UTF-8"
    return None


def _sniffed(head: bytes) -> Format | None:
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    is_json = head.removeprefix(BOM).lstrip().startswith(b"{") or begins_array(head)
    return "jsonl" if is_json else None
