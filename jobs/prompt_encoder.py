"""From a prompt to token ids, with the model's own tokenizer. One prompt's fault stays its own."""

from collections.abc import Sequence
from typing import Any, Protocol

from ..engine.outputs import RequestError
from .frames import InteractiveRequest
from .templates import Prompt

TokenIds = tuple[int, ...]
_PLAIN = "/v1/completions"


class Tokenizer(Protocol):
    """What is asked of a tokenizer; the engine's has more."""

    has_chat_template: bool

    def encode(self, text: str) -> TokenIds | RequestError:
        """Return the token ids of a plain prompt."""
        ...

    def encode_chat(
        self, messages: Sequence[Any], *, tools: Sequence[Any] | None = None
    ) -> TokenIds | RequestError:
        """Return the token ids of a conversation."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        ...


class PromptEncoder:
    """Encodes prompts of bulk rows and of interactive requests. Threads may share it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode_row(self, prompt: Prompt) -> TokenIds | RequestError:
        """Encode a rendered row: a lone prompt becomes a chat where the model has a template."""
        if prompt.messages is not None:
            messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
            return self._guarded(text=None, messages=messages)
        if prompt.endpoint != _PLAIN and self._tokenizer.has_chat_template:
            return self._guarded(text=None, messages=[{"role": "user", "content": prompt.text}])
        return self._guarded(text=prompt.text or "", messages=None)

    def encode_request(self, request: InteractiveRequest) -> TokenIds | RequestError:
        """Encode an interactive request, which says itself whether it is a chat."""
        if request.token_ids is not None:
            return request.token_ids
        return self._guarded(request.prompt or "", request.messages, request.tools)

    def _guarded(
        self,
        text: str | None,
        messages: Sequence[dict[str, Any]] | None,
        tools: Sequence[dict[str, Any]] | None = None,
    ) -> TokenIds | RequestError:
        try:
            if messages is None:
                return self._tokenizer.encode(text or "")
            return self._tokenizer.encode_chat(messages, tools=tools)
        except Exception as error:  # a tokenizer may choke on anything; its other rows go on
            message = f"the prompt cannot be tokenized: {error}"[:500]
            return RequestError(code="invalid_request", message=message, stage="tokenize")
