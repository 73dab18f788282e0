"""Token ids in, text out, as they come: whole characters only, cut before a stop string.

Knows one output's text. The sum of what is returned is what decoding all tokens at once gives,
but for bytes that are no text in a vocabulary with byte fallback: those cannot be waited for longer
than a few tokens, and how many U+FFFD they are then may differ.

    tokens -> decoder (holds back half characters) -> stop matcher (holds back half matches) -> text
"""

import codecs
from collections.abc import Sequence
from typing import Protocol

from .tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"
_MAX_HELD_TOKENS = 8  # a character has at most 4 bytes; longer than this is no character at all


class Detokenizer:
    """The text of one sample.

    Attributes:
        matched_stop: the stop string that ended the text, once there is one.
    """

    __slots__ = ("_decoder", "_matcher", "matched_stop")

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        pieces = tokenizer.byte_pieces()
        self._decoder: _Decoder = (
            _WindowDecoder(tokenizer) if pieces is None else _ByteDecoder(pieces)
        )
        self._matcher = _StopMatcher(stop) if stop else None
        self.matched_stop: str | None = None

    def push(self, token_ids: Sequence[int], *, may_stop: bool = True) -> str:
        """Add tokens and return the text that has become certain.

        Until it `may_stop`, text is not searched for stop strings.
        """
        text = self._decoder.push(token_ids)
        if self._matcher is None or not may_stop:
            return text
        return self._match(self._matcher, text)

    def flush(self) -> str:
        """Return what was held back, at the end of the output; nothing behind a stop string."""
        if self.matched_stop is not None:
            return ""
        text = self._decoder.flush()
        if self._matcher is None:
            return text
        text = self._match(self._matcher, text)
        return text if self.matched_stop is not None else text + self._matcher.flush()

    def _match(self, matcher: "_StopMatcher", text: str) -> str:
        text, self.matched_stop = matcher.push(text)
        return text


class _Decoder(Protocol):
    def push(self, token_ids: Sequence[int]) -> str: ...

    def flush(self) -> str: ...


class _ByteDecoder:
    """For byte-level vocabularies: look the bytes up, let UTF-8 decide where characters end."""

    __slots__ = ("_pieces", "_utf8")

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_ids: Sequence[int]) -> str:
        pieces = self._pieces
        known = len(pieces)  # a model's vocabulary may be padded beyond its tokenizer's
        return self._utf8.decode(b"".join([pieces[i] for i in token_ids if i < known]))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class _WindowDecoder:
    """For any other tokenizer: decode a short window twice, with and without the new tokens.

    Spaces and joined bytes depend on the tokens before, so the window starts with the last ones
    that gave text:   [ context | held ]   text = decode(context + held) - decode(context)
    """

    __slots__ = ("_context", "_held", "_known", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known = len(tokenizer)
        self._context: list[int] = []
        self._held: list[int] = []

    def push(self, token_ids: Sequence[int]) -> str:
        silent = self._tokenizer.special_token_ids
        fresh = [i for i in token_ids if i not in silent and i < self._known]
        if len(fresh) > 1:  # most often there is no half character in the way
            self._held += fresh
            text = self._held_text()
            if _REPLACEMENT not in text:
                return self._release(text)
            del self._held[-len(fresh) :]
        return "".join([self._push_one(token_id) for token_id in fresh])

    def _push_one(self, token_id: int) -> str:
        self._held.append(token_id)
        text = self._held_text()
        is_whole = text and not text.endswith(_REPLACEMENT)
        return self._release(text) if is_whole or len(self._held) >= _MAX_HELD_TOKENS else ""

    def _release(self, text: str) -> str:
        self._context, self._held = self._held, []
        return text

    def flush(self) -> str:
        return self._held_text() if self._held else ""

    def _held_text(self) -> str:
        context = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._held)[len(context) :]


class _StopMatcher:
    """Finds the stop string that is complete first, wherever the pieces of text are cut."""

    __slots__ = ("_longest", "_stops", "_tail")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops))
        self._tail = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Return the text that belongs to no match, and the stop string if one is complete."""
        text = self._tail + text
        matches = [(text.find(stop), stop) for stop in self._stops]
        ends = [(start + len(stop), start, stop) for start, stop in matches if start >= 0]
        if ends:
            _, start, stop = min(ends)
            self._tail = ""
            return text[:start], stop
        held = next(
            (
                size
                for size in range(min(self._longest - 1, len(text)), 0, -1)
                if any(stop.startswith(text[-size:]) for stop in self._stops)
            ),
            0,
        )
        self._tail = text[len(text) - held :]
        return text[: len(text) - held], None

    def flush(self) -> str:
        """Return the beginning of a match that never came to its end."""
        tail, self._tail = self._tail, ""
        return tail
