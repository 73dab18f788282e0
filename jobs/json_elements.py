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
    """The array does not end, holds what nobody can hold, or something stands behind it."""


@dataclass(frozen=True, slots=True)
class Element:
    """The text of an element, and the line, from 1, in which it begins."""

    line: int
    text: bytes


def begins_array(head: bytes) -> bool:
    """Tell whether a file that begins so is one array of objects, not a line for each."""
    return _BEGINS.match(head.removeprefix(BOM)) is not None


def elements(file: BinaryIO, max_bytes: int) -> Iterator[Element]:
    """Yield the elements of the array that a file is, none longer than `max_bytes`.

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

    def elements(self) -> Iterator[Element]:
        self._read()
        self._pass(self._window.index(b"[") + 1)
        position, depth = self._begin, 1
        while depth:
            mark = (_IN_ELEMENT if depth > 1 else _IN_ARRAY).match(self._window, position)
            sign = b"" if mark is None else mark["sign"]
            if mark is None or not sign:  # the window ends, perhaps within a text
                position = (position if mark is None else mark.end()) - self._begin
                self._read()
                continue
            position = mark.end()
            depth += (sign in b"[{") - (sign in b"]}")
            if depth == 0 or (depth == 1 and sign == b","):
                element = self._element(position - 1)
                self._pass(position)
                if element.text or sign == b",":
                    yield element
                if depth == 0:
                    self._check_end(sign)

    def _element(self, end: int) -> Element:
        text = self._window[self._begin : end]
        num_blank = len(text) - len(text.lstrip())
        return Element(self._line + text.count(b"\n", 0, num_blank), text.strip())

    def _pass(self, position: int) -> None:
        self._line += self._window.count(b"\n", self._begin, position)
        self._begin = position

    def _read(self) -> None:
        """Read on. The element then begins where the window does."""
        held = self._window[self._begin :]
        if len(held) > self._max_bytes:
            raise BrokenArray(
                f"an element in line {self._line} is longer than {self._max_bytes >> 20} MiB"
            )
        piece = self._file.read(max(_PIECE_BYTES, len(held)))
        if not piece:
            line = self._line + held.rstrip().count(b"\n")
            raise BrokenArray(f"its array does not end: the file breaks off in line {line}")
        self._window, self._begin = held + piece, 0

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
