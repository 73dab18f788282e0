"""Cutting a text in pieces, by units of several kinds. Knows no row and no tokenizer.

    unit   unit   unit   unit   unit   unit        size 3, overlap 1
    |-------------------|
                  |-------------------|
                                |------------ …

Every piece is a part of the text as it stands: nothing is added, only blanks at its ends may go.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol, TypeAlias

from ..spec import Split

TokenEnds: TypeAlias = Callable[[str], Sequence[int]]

_WORD = re.compile(r"\S+")
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
_Span: TypeAlias = tuple[int, int]


def pieces(text: str, split: Split, token_ends: TokenEnds | None = None) -> Iterator[str]:
    """Yield the pieces of a text, in order; of an empty text there are none.

    `token_ends` says at which character each token of a text ends; only `by: tokens` asks.
    """
    units = _units(text, split, token_ends)
    size = split.piece_size
    step = max(1, size - split.overlap)
    for first in range(0, len(units), step):
        last = min(first + size, len(units)) - 1
        piece = text[units[first][0] : units[last][1]]
        if piece:
            yield piece
        if last == len(units) - 1:
            return


def _units(text: str, split: Split, token_ends: TokenEnds | None) -> "_Units":
    """Return where each unit begins and ends."""
    match split.by:
        case "characters":
            return _Characters(len(text))
        case "words":
            return [found.span() for found in _WORD.finditer(text)]
        case "lines":
            return _between(text, list(_places(text, "\n")))
        case "paragraphs":
            return _between(text, [found.span() for found in _PARAGRAPH_END.finditer(text)])
        case "separator":
            return _between(text, list(_places(text, split.separator or "\n")))
        case "tokens":
            if token_ends is None:
                raise ValueError("a text is cut by tokens only where there is a tokenizer")
            ends = list(token_ends(text))[:-1]  # the last may leave out blanks at the end
            return list(pairwise([0, *ends, len(text)])) if text else []


class _Units(Protocol):
    """Where each unit of a text begins and ends."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> _Span: ...


class _Characters:
    """The places of characters, which need not be written out."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> _Span:
        return index, index + 1


def _places(text: str, separator: str) -> Iterator[_Span]:
    start = text.find(separator)
    while start >= 0:
        yield start, start + len(separator)
        start = text.find(separator, start + len(separator))


def _between(text: str, gaps: list[_Span]) -> list[_Span]:
    """Return what lies between gaps, unless it is blank."""
    starts = [0, *(end for _, end in gaps)]
    ends = [*(start for start, _ in gaps), len(text)]
    spans = zip(starts, ends, strict=True)
    return [(start, end) for start, end in spans if text[start:end].strip()]
