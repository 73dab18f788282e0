"""Reads CSV and TSV as rows; the first line names the columns, and every value is text.

A line that is not CSV by itself spoils no other. A quote that swallows lines behind it does: which
of them are rows, and which belong to a text, nobody can tell. So the input is refused as a whole.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

from .input_row import MAX_LINE_BYTES, InputRow, UnreadableInput, short_reason
from .model import RejectedLine

_NAMES_SHOWN = 20
_NAME_CHARS_SHOWN = 80
_NAMES = {",": "comma", "\t": "tab"}
_JSON = ('{"', "[{")  # how its first line begins
_ONE_COLUMN = "if it names one column, put quotes around it"
_OPEN_QUOTE = "unexpected end of data"  # what csv says of it


def read_csv(file: BinaryIO, name: str, delimiter: str = ",") -> Iterator[InputRow | RejectedLine]:
    """Read all rows of an input that is called so in messages.

    Raises:
        UnreadableInput: its header names no columns, or, later, a line is too long to be held, or
            a quote swallows the lines behind it.
    """
    # The limit is one for the whole process, and its default is too small for documents.
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _lines(text, name)
    first, second = next(lines, ""), next(lines, "")
    if hint := _other_format(first, second, delimiter):
        raise UnreadableInput(f"cannot read {name}: its first line {hint}")
    reader = csv.reader(chain((first, second), lines), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise UnreadableInput(f"cannot read {name}: its first line is not CSV: {error}") from error
    if fault := _header_fault(header):
        raise UnreadableInput(
            f"cannot read {name}: its first line must name every column, once: {fault}; got "
            f"{[column[:_NAME_CHARS_SHOWN] for column in header[:_NAMES_SHOWN]]!r}"
        )
    return _rows(reader, header, text, name)


def _header_fault(header: Sequence[str]) -> str | None:
    if not header:
        return "it is blank"
    if "" in header:
        return f"column {header.index('') + 1} has no name"
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        return f"{name!r:.80} stands there {count} times"
    return "it is not UTF-8: save it so" if any(map(_has_surrogates, header)) else None


def _other_format(first: str, second: str, delimiter: str) -> str | None:
    """Tell whether the first lines are of another format; None if they may be of this one."""
    if first.lstrip().startswith(_JSON):
        return "is JSON: leave the format out, or say jsonl"
    if delimiter != "," or "," in first or '"' in first:
        return None
    if 0 < first.count("\t") <= second.count("\t"):
        return f"holds tabs and no comma: name it .tsv, or say tsv as its format; {_ONE_COLUMN}"
    if 0 < first.count(";") <= second.count(";"):
        return (
            f"holds semicolons and no comma: export it with commas, or as JSON lines; {_ONE_COLUMN}"
        )
    return None


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    line = 0
    while read := text.readline(MAX_LINE_BYTES):
        line += 1
        if len(read) == MAX_LINE_BYTES and not read.endswith("\n"):
            raise UnreadableInput(
                f"cannot read {name}: its line {line} is longer than {MAX_LINE_BYTES >> 20} MiB"
            )
        yield read


def _rows(
    reader: Any, header: list[str], text: io.TextIOWrapper, name: str
) -> Iterator[InputRow | RejectedLine]:
    separator = _NAMES[reader.dialect.delimiter]
    try:
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if reader.line_num > line:
                    raise UnreadableInput(
                        f"cannot read {name}: the row that begins in line {line} has a quote that "
                        f"ends no text as it must, up to line {reader.line_num}: "
                        f"{short_reason(error)}; close the text, and write a quote in it as two"
                    ) from error
                yield RejectedLine(line, f"is not CSV: {_said(error)}")
                continue
            if not fields:
                continue
            if len(fields) == len(header):
                yield _row(line, header, fields)
            else:
                said = _miscounted(header, fields, separator)
                yield RejectedLine(line, said + _span(line, reader.line_num))
    finally:
        text.detach()  # or it would close the file under its owner


def _row(line: int, header: list[str], fields: list[str]) -> InputRow | RejectedLine:
    for column, field in zip(header, fields, strict=True):
        if _has_surrogates(field):
            return RejectedLine(line, f"is not UTF-8 in column {column!r:.80}")
    return InputRow(line, dict(zip(header, fields, strict=True)))


def _miscounted(header: list[str], fields: list[str], separator: str) -> str:
    fields_said = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    said = f"has {fields_said}, the header names {len(header)} columns"
    if len(fields) < len(header):
        return f"{said}: nothing stands for {header[len(fields)]!r:.80}"
    return f"{said}: a text that holds a {separator} needs quotes around it"


def _span(line: int, last_line: int) -> str:
    return f" (a text in quotes goes on to line {last_line})" if last_line > line else ""


def _said(error: csv.Error) -> str:
    said = short_reason(error)
    return f"a quote opens in it that never closes ({said})" if said == _OPEN_QUOTE else said


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)
