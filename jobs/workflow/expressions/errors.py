"""What can be wrong with an expression, and where in its text. Knows no grammar."""

import difflib
from collections.abc import Iterable
from typing import Any

from ...model import RequestError

_MAX_SHOWN = 72  # characters of a text around the place
_MAX_CANDIDATES = 200


class ExpressionError(ValueError):
    """An expression that cannot be used; the message points at the place."""

    def __init__(self, problem: str, text: str, position: int) -> None:
        super().__init__(f"{problem}\n{pointed_at(text, position)}")
        self.problem = problem
        self.position = position


class EvaluationError(ValueError):
    """An expression that has no value for one row; its neighbours are not concerned."""

    def __init__(self, problem: str, text: str = "", position: int = 0) -> None:
        super().__init__(f"{problem}\n{pointed_at(text, position)}" if text else problem)
        self.problem = problem

    def to_request_error(self) -> RequestError:
        """Describe it as the failure of a row."""
        return RequestError("expression_error", str(self), stage="render")


def pointed_at(text: str, position: int) -> str:
    """Show the part of a text around a position, with a caret below it."""
    start = max(0, min(position - _MAX_SHOWN // 2, len(text) - _MAX_SHOWN))
    piece = "".join(" " if char.isspace() else char for char in text[start : start + _MAX_SHOWN])
    before = "…" if start else ""
    after = "…" if start + _MAX_SHOWN < len(text) else ""
    indent = " " * (len(before) + position - start)
    return f"  {before}{piece}{after}\n  {indent}^"


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Guess what may have been meant; None where nothing is near."""
    candidates = [each for each in known if abs(len(each) - len(name)) <= 4][:_MAX_CANDIDATES]
    return next(iter(difflib.get_close_matches(name[:80], candidates, n=1, cutoff=0.6)), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest what may have been meant; an empty text where nothing is near."""
    found = nearest_name(name, known)
    return f"; did you mean {found!r}?" if found else ""


def shown(value: Any) -> str:
    """Write a value as short as a message wants it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)} fields"
        case str() if len(value) > 40:
            return f"{value[:40]!r}…"
        case _:
            return repr(value)[:48]
