"""What expressions do with texts, each within a budget. Knows no syntax.

No regular expressions of people's: whatever is looked for is found in time that is paid for.
"""

import re
from collections.abc import Callable
from typing import Any

from .errors import EvaluationError
from .values import MAX_TEXT_CHARS, Budget, bounded

_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")


def on_text(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of a method of texts that looks at each character once."""

    def call(budget: Budget, text: str, *others: str) -> Any:
        budget.spend(len(text))
        return bounded(method(text, *others))

    return call


def replace(budget: Budget, text: str, old: str, new: str) -> str:
    """Put one text in the place of another, everywhere, within the longest there may be."""
    length = len(text) + text.count(old) * (len(new) - len(old))
    if length > MAX_TEXT_CHARS:
        raise EvaluationError(f"replace would make a text longer than {MAX_TEXT_CHARS}")
    budget.spend(len(text) + length)
    return text.replace(old, new)


def split(budget: Budget, text: str, separator: str | None = None) -> list[str]:
    """Cut a text at a separator, or between its words."""
    if separator == "":
        raise EvaluationError("split takes a separator that is not empty")
    budget.spend(len(text))
    return bounded(text.split(separator))


def trim(budget: Budget, text: str, chars: str | None = None) -> str:
    """Take blanks, or some characters, from both ends."""
    budget.spend(len(text) * (1 if chars is None else 1 + len(chars)))
    return text.strip(chars)


def numbers(budget: Budget, text: str) -> list[int | float]:
    """Return the numbers in a text, such as 7 and 10 of "7/10"."""
    budget.spend(len(text))
    found = [match[0] for match in _NUMBER.finditer(text)]
    values = (float(word) if "." in word or len(word) > 18 else int(word) for word in found)
    return bounded([bounded(value) for value in values])


def like(budget: Budget, text: str, pattern: str) -> bool:
    """Match as SQL does: % stands for any characters, _ for one."""
    first, *pieces = pattern.split("%")
    budget.spend((len(text) + 1) * (len(pattern) + 1))
    if not pieces:
        return len(text) == len(first) and _is_piece(text, 0, first)
    *middle, last = pieces
    if len(first) + len(last) > len(text) or not _is_piece(text, 0, first):
        return False
    end = len(text) - len(last)
    if not _is_piece(text, end, last):
        return False
    position = len(first)
    for piece in middle:
        starts = range(position, end - len(piece) + 1)
        found = next((start for start in starts if _is_piece(text, start, piece)), None)
        if found is None:
            return False
        position = found + len(piece)
    return True


def _is_piece(text: str, start: int, piece: str) -> bool:
    if "_" not in piece:
        return text.startswith(piece, start)
    return all(want in ("_", text[start + index]) for index, want in enumerate(piece))
