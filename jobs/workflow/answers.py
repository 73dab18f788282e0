"""Reading answers: what a model said becomes a value, if it is what was asked for."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..strict_json import NotJson, parse_json
from ..vectors import unpack
from .asking.document_check import violation
from .asks import Answer
from .computing.ledger import RowFailed
from .expressions.errors import shown

INVALID_OUTPUT, SCHEMA_VIOLATION = "invalid_output", "schema_violation"
NOT_AS_ASKED = frozenset({INVALID_OUTPUT, SCHEMA_VIOLATION})

_FENCE = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer is to be.

    Attributes:
        read: returns the value of an answer, or raises `RowFailed` with a code of `NOT_AS_ASKED`.
        constraint: what a request says so that the answer cannot be anything else.
        is_checked: whether `read` finds out what is not as asked, so that a try may be free.
    """

    read: Callable[[Answer], Any]
    constraint: Mapping[str, Any] = field(default_factory=dict)
    is_checked: bool = True


def any_text() -> Form:
    """Ask for any text."""
    return Form(_text)


def matching(regex: str) -> Form:
    """Ask for a text that matches an expression; to match it is left to the engine."""
    return Form(_text, {"structured_outputs": {"regex": regex}}, is_checked=False)


def one_of(choices: Sequence[str]) -> Form:
    """Ask for one of some texts."""

    def read(answer: Answer) -> str:
        text = _text(answer)
        for choice in (text, text.strip()):
            if choice in choices:
                return choice
        raise _not_as_asked(f"the answer is none of the choices: {shown(text)}")

    return Form(read, {"structured_outputs": {"choice": list(choices)}})


def document(schema: Mapping[str, Any], name: str) -> Form:
    """Ask for a JSON document of a schema."""

    def read(answer: Answer) -> Any:
        text = _text(answer)
        if answer.finish_reason == "length":
            raise _not_as_asked("the answer was cut off at max_tokens, before its document ended")
        value = _parsed(text)
        wrong = violation(value, schema)
        if wrong is not None:
            raise RowFailed.because(SCHEMA_VIOLATION, wrong, stage="parse")
        return value

    said = {"name": name, "schema": dict(schema)}
    return Form(read, {"response_format": {"type": "json_schema", "json_schema": said}})


def a_reward() -> Form:
    """Ask for a text with a number in it: the first one counts."""

    def read(answer: Answer) -> dict[str, float]:
        text = _text(answer)
        found = _NUMBER.search(text)
        number = float(found.group()) if found is not None else math.inf
        if not math.isfinite(number):
            raise _not_as_asked(f"there is no number in the answer {shown(text)}")
        return {"value": number}

    return Form(read)


def a_vector() -> Form:
    """Ask for the vector of a text."""

    def read(answer: Answer) -> list[float]:
        if answer.vector is None:
            raise RowFailed.because("engine_error", "the answer has no vector", stage="parse")
        return unpack(answer.vector)

    return Form(read)


def _text(answer: Answer) -> str:
    if answer.text is None:
        raise _not_as_asked("the answer has no text")
    return answer.text


def _parsed(text: str) -> Any:
    """Parse a document; a model that is free in its form likes to put it in a fence."""
    try:
        return _strictly(text)
    except (NotJson, ValueError) as error:
        fenced = _FENCE.search(text)
        if fenced is not None:
            with suppress(NotJson, ValueError):
                return _strictly(fenced.group(1))
        raise _not_as_asked(f"the answer is no JSON document: {error}"[:500]) from None


def _strictly(text: str) -> Any:
    value = parse_json(text.encode("utf-8", "surrogatepass"))
    json.dumps(value, allow_nan=False)  # 1e999 is read as infinity
    return value


def _not_as_asked(message: str) -> RowFailed:
    return RowFailed.because(INVALID_OUTPUT, message, stage="parse")
