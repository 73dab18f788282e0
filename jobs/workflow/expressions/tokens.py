"""Cuts the text of an expression into tokens. Knows no grammar."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .errors import ExpressionError

TokenKind: TypeAlias = Literal["number", "text", "name", "operator", "end"]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<name>[^\W\d]\w*)
      | (?P<operator>==|!=|<=|>=|//|[-+*/%~<>=|.,:()\[\]])
      | (?P<end>$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


@dataclass(frozen=True, slots=True)
class Token:
    """A word of an expression; a text's quotes and escapes are resolved."""

    kind: TokenKind
    text: str
    position: int


def tokens(text: str) -> list[Token]:
    """Cut a text into tokens; the last one is its end.

    Raises:
        ExpressionError: something in it is no token.
    """
    found: list[Token] = []
    position = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _no_token(text, position)
        group = match.lastgroup
        start, position = match.span(group)
        word = match[group]
        if group == "number" and re.match(r"\w", text[position : position + 1]):
            raise ExpressionError("a number ends in letters", text, position)
        if group == "text":
            word = _unescaped(word[1:-1], text, start)
        found.append(Token(group, word, start))  # pyright: ignore[reportArgumentType] the groups are the kinds
    return found


def _unescaped(inner: str, text: str, position: int) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) == 5:
            char = chr(int(code[1:], 16))
            if "\ud800" <= char <= "\udfff":
                raise ExpressionError(f"\\{code} is half a character", text, position)
            return char
        if code not in _ESCAPED:
            raise ExpressionError(f"a text has no escape \\{code}", text, position)
        return _ESCAPED[code]

    return _ESCAPE.sub(one, inner) if "\\" in inner else inner


def _no_token(text: str, position: int) -> ExpressionError:
    while position < len(text) and text[position].isspace():
        position += 1
    char = text[position]
    hint = ""
    if char in "'\"":
        return ExpressionError("a text has no closing quote", text, position)
    if char in "{}":
        hint = "; there are lists [1, 2], but no objects, and {{ }} may only stand around it all"
    elif char in "&!^":
        hint = "; say and, or, not"
    return ExpressionError(f"{char!r} has no meaning here{hint}", text, position)
