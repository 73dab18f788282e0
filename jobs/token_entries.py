"""Log-probabilities with the text of their tokens: only the engine process has the tokenizer."""

from collections.abc import Sequence
from typing import Any

from ..engine.outputs import TokenLogprobs
from .prompt_encoder import Tokenizer


class TokenTexts:
    """The texts of tokens, each looked up once: rows name the same few thousand again and again."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}

    def __call__(self, token_id: int) -> str:
        """Return the text of a token by itself; half a character has none that can be read."""
        text = self._known.get(token_id)
        if text is None:
            text = self._known[token_id] = self._tokenizer.decode([token_id])
        return text


class TokenEntries:
    """Describes tokens as plain data: text, id, log-probability, and the likeliest in `top`."""

    def __init__(self, texts: TokenTexts) -> None:
        self._texts = texts

    def of_output(self, records: Sequence[TokenLogprobs]) -> tuple[dict[str, Any], ...]:
        """Describe generated tokens."""
        return tuple(map(self._described, records))

    def of_prompt(
        self, records: Sequence[TokenLogprobs | None], first_token_id: int
    ) -> tuple[dict[str, Any], ...]:
        """Describe the tokens of a prompt; before the first there is nothing to go by."""
        first = {**self._entry(first_token_id, None), "top": []}
        return (first, *(self._described(record) for record in records if record is not None))

    def _described(self, record: TokenLogprobs) -> dict[str, Any]:
        top = [self._entry(token_id, logprob) for token_id, logprob in record.top]
        return {**self._entry(record.token_id, record.logprob), "top": top}

    def _entry(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        return {"token": self._texts(token_id), "token_id": token_id, "logprob": logprob}
