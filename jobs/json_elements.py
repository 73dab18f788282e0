"""Cuts a JSON array into its elements, a piece of the file at a time. Reads none of them.

    [ {"a": 1} , {"a": [2, "]"]} ]
      ^^^^^^^^   ^^^^^^^^^^^^^^^     depth 1 is the array's own; a comma there ends an element

Only standard library, so that a light client can cut as the server does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BOM = b"\xef\xbb\xbf"

_PIECE_BYTES = 1 << 20
_BEGINS = re.compile(rb"\s*\[\s*(?:[{\]]|\Z)")
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_IN_ARRAY = re.compile(rb'(?:[^"\[\]{},]++|%b)*+(?P<sign>[\[\]{},]?)' % _TEXT, re.DOTALL)
_IN_ELEMENT = re.compile(rb'(?:[^"\[\]{}]++|%b)*+(?P<sign>[\[\]{}]?)' % _TEXT, re.DOTALL)


class BrokenArray(ValueError):
    """The array does not end, or something stands behind it."""


@dataclass(frozen=True, slots=True)
class Element:
    """The text of an element, None if it is too long; and the line, from 1, in which it begins."""

    line: int
    text: bytes | None


def begins_array(head: bytes) -> bool:
    """Tell whether a file that begins so is one array of objects, not a line for each."""
    return _BEGINS.match(head.removeprefix(BOM)) is not None


def elements(file: BinaryIO, max_bytes: int) -> Iterator[Element]:
    """Yield the elements of the array that a file is; one of more than `max_bytes` without text.

    A comma behind the last one is borne.

    Raises:
        BrokenArray: it is no whole array; the message names the line.
    """
    return _Cut(file, max_bytes).elements()


class _Cut:
    """A window on the file: the element that is being cut, and what has been read behind it."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._window = b""
        self._begin = 0  # of the element, in the window
        self._line = 1  # in which that is
        self._too_long: Element | None = None  # of which the window has the end alone

    def elements(self) -> Iterator[Element]:
        self._read(0)
        self._pass(self._window.index(b"[") + 1)
        position, depth = self._begin, 1
        while depth:
            mark = (_IN_ELEMENT if depth > 1 else _IN_ARRAY).match(self._window, position)
            sign = b"" if mark is None else mark["sign"]
            if mark is None or not sign:  # the window ends, perhaps within a text
                position = self._read(position if mark is None else mark.end())
                continue
            position = mark.end()
            depth += (sign in b"[{") - (sign in b"]}")
            if depth == 0 or (depth == 1 and sign == b","):
                element = self._element(position - 1)
                self._pass(position)
                if element.text != b"" or sign == b",":
                    yield element
                if depth == 0:
                    self._check_end(sign)

    def _element(self, end: int) -> Element:
        too_long, self._too_long = self._too_long, None
        if too_long is not None:
            return too_long
        text = self._window[self._begin : end]
        num_blank = len(text) - len(text.lstrip())
        line = self._line + text.count(b"\n", 0, num_blank)
        text = text.strip()
        return Element(line, text if len(text) <= self._max_bytes else None)

    def _pass(self, position: int) -> None:
        self._line += self._window.count(b"\n", self._begin, position)
        self._begin = position

    def _read(self, position: int) -> int:
        """Read on, from where a text begins or the window ends; return where in the window that is.

        The element then begins where the window does.
        """
        if len(self._window) - self._begin > self._max_bytes:
            self._pass_blanks()
        if len(self._window) - self._begin > self._max_bytes:
            position = self._let_go(position)
        held, position = self._window[self._begin :], position - self._begin
        piece = self._file.read(max(_PIECE_BYTES, len(held)))
        if not piece:
            line = self._line + held.rstrip().count(b"\n")
            raise BrokenArray(f"its array does not end: the file breaks off in line {line}")
        self._window, self._begin = held + piece, 0
        return position

    def _pass_blanks(self) -> None:
        self._pass(len(self._window) - len(self._window[self._begin :].lstrip()))

    def _let_go(self, position: int) -> int:
        """Hold no more of an element that is too long than what tells where it ends."""
        self._too_long = self._too_long or Element(self._line, None)
        open_text = self._window[position:]
        num_escapes = len(open_text) - len(open_text.rstrip(b"\\"))
        self._pass(len(self._window))
        self._window, self._begin = open_text[:1] + b"\\" * (num_escapes % 2), 0
        return 0

    def _check_end(self, sign: bytes) -> None:
        if sign != b"]":
            raise BrokenArray(f"a brace in line {self._line} closes what was not opened")
        rest = self._window[self._begin :]
        while not rest.strip():
            self._line += rest.count(b"\n")
            rest = self._file.read(_PIECE_BYTES)
            if not rest:
                return
        line = self._line + rest[: len(rest) - len(rest.lstrip())].count(b"\n")
        raise BrokenArray(
            f"something stands behind its array, in line {line}: write one array, or an object on "
            "each line"
        )
