"""What has changed between two texts, word by word, as `git diff --word-diff` shows it."""

import re
from difflib import SequenceMatcher
from itertools import islice
from typing import Literal, TypeAlias

Piece: TypeAlias = tuple[Literal["same", "removed", "added"], str]

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_WORDS = 400  # of each text, and the spaces between them: what it costs is quadratic
_AROUND = 40  # characters that are shown of what stayed, on either side of a change


def word_diff(before: str, after: str) -> list[Piece]:
    """Cut both texts into what stayed, was removed and was added; long texts are shortened first.

    What stayed is shortened too, where it is far from any change.
    """
    old, new = _words_of(before), _words_of(after)
    pieces: list[Piece] = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for kind, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(old[old_from:old_to])))
            continue
        if old_to > old_from:
            pieces.append(("removed", "".join(old[old_from:old_to])))
        if new_to > new_from:
            pieces.append(("added", "".join(new[new_from:new_to])))
    last = len(pieces) - 1
    return [
        (kind, _around(text, at == 0, at == last)) if kind == "same" else (kind, text)
        for at, (kind, text) in enumerate(pieces)
    ]


def _words_of(text: str) -> list[str]:
    words = [found[0] for found in islice(_WORD.finditer(text), _MOST_WORDS + 1)]
    return words if len(words) <= _MOST_WORDS else [*words[:_MOST_WORDS], "…"]


def _around(text: str, is_first: bool, is_last: bool) -> str:
    """Shorten what stayed, but for the ends that touch a change."""
    before = "" if is_first else text[:_AROUND]
    after = "" if is_last else text[-_AROUND:]
    return text if len(text) <= len(before) + len(after) + 1 else f"{before}…{after}"
