"""Reads CSV and TSV as rows; the first line names the columns, and every value is text."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from .input_row import MAX_LINE_BYTES, InputRow, UnreadableInput, short_reason
from .model import RejectedLine

_NAMES_SHOWN = 20
_NAMES = {",": "comma", "\t": "tab"}
_JSON = ('{"', "[{")  # how its first line begins
_OPEN_QUOTE = "unexpected end of data"  # what csv says of it


def read_csv(file: BinaryIO, name: str, delimiter: str = ",") -> Iterator[InputRow | RejectedLine]:
    """Read all rows of an input that is called so in messages.

    Raises:
        UnreadableInput: its header names no columns, or, later, a line is too long to be held.
    """
    # The limit is one for the whole process, and its default is too small for documents.
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(_lines(text, name), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise UnreadableInput(f"cannot read {name}: its first line is not CSV: {error}") from error
    if hint := _other_format(header, delimiter):
        raise UnreadableInput(f"cannot read {name}: its first line {hint}")
    if fault := _header_fault(header):
        raise UnreadableInput(
            f"cannot read {name}: its first line must name every column, once: {fault}; got "
            f"{header[:_NAMES_SHOWN]!r}"
        )
    return _rows(reader, header, text)


def _header_fault(header: Sequence[str]) -> str | None:
    if not header:
        return "it is blank"
    if "" in header:
        return f"column {header.index('') + 1} has no name"
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        return f"{name!r:.80} stands there {count} times"
    return "it is not UTF-8: save it so" if any(map(_has_surrogates, header)) else None


def _other_format(header: Sequence[str], delimiter: str) -> str | None:
    """Tell whether the first line is of another format; None if it may be of this one."""
    if header and header[0].lstrip().startswith(_JSON):
        return "is JSON: leave the format out, or say jsonl"
    if len(header) == 1 and delimiter == "," and "\t" in header[0]:
        return "holds tabs and no comma: name it .tsv, or say tsv as its format"
    if len(header) == 1 and delimiter == "," and ";" in header[0]:
        return "holds semicolons and no comma: export it with commas, or as JSON lines"
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
    reader: Any, header: list[str], text: io.TextIOWrapper
) -> Iterator[InputRow | RejectedLine]:
    try:
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield RejectedLine(line, f"is not CSV: {_said(error)}")
                continue
            if fields:
                yield _row(line, header, fields, _NAMES[reader.dialect.delimiter])
    finally:
        text.detach()  # or it would close the file under its owner


def _row(
    line: int, header: list[str], fields: list[str], separator: str
) -> InputRow | RejectedLine:
    if len(fields) != len(header):
        return RejectedLine(line, _miscounted(header, fields, separator))
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


def _said(error: csv.Error) -> str:
    said = short_reason(error)
    return f"a quote opens in it that never closes ({said})" if said == _OPEN_QUOTE else said


def _has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)
