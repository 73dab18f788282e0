"""The tokens of an expression, read from left to right, and what is said where one is out of place.

Knows no grammar: what may follow what is the parser's to say.
"""

from typing import NoReturn

from .errors import ExpressionError
from .tokens import Token, tokens


class TokenReader:
    """Stands at one token of a text at a time; behind the last one stands the end.

    Raises:
        ExpressionError: something in the text is no token.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0

    @property
    def current(self) -> Token:
        """The token that has not been taken yet."""
        return self._tokens[self._next]

    @property
    def following(self) -> Token:
        """The token behind it."""
        return self._tokens[min(self._next + 1, len(self._tokens) - 1)]

    def is_at(self, *words: str) -> bool:
        """Whether one of these operators or names comes next."""
        return self.current.kind in ("operator", "name") and self.current.text in words

    def take(self) -> Token:
        """Go on to the next token; returns the one that is left behind."""
        token = self.current
        self._next += token.kind != "end"
        return token

    def expect(self, word: str) -> Token:
        """Take what must come next."""
        if not self.is_at(word):
            self.unexpected(f"{word!r}")
        return self.take()

    def unexpected(self, wanted: str) -> NoReturn:
        """Refuse what comes next."""
        self.refuse(self.current, wanted)

    def refuse(self, token: Token, wanted: str) -> NoReturn:
        """Refuse a token where another was wanted."""
        got = "it ends" if token.kind == "end" else f"there is {token.text[:40]!r}"
        self.fail(f"{wanted} is expected, but {got}", token)

    def fail(self, problem: str, token: Token) -> NoReturn:
        """Say what is wrong, and point at the token."""
        raise ExpressionError(problem, self._text, token.position)
