"""From a prompt to token ids, with the model's own tokenizer. One prompt's fault stays its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..engine.outputs import RequestError
from .frames import InteractiveRequest
from .model import EMBED
from .templates import Prompt
from .tool_use import ToolFormat, ToolUse

TokenIds = tuple[int, ...]
AUTO = "auto"
_PLAIN = frozenset({"/v1/completions", EMBED})  # no chat, whatever the model has


class Tokenizer(Protocol):
    """What is asked of a tokenizer; the engine's has more."""

    has_chat_template: bool
    tool_format: ToolFormat | None

    def encode(self, text: str) -> TokenIds | RequestError:
        """Return the token ids of a plain prompt."""
        ...

    def encode_chat(
        self,
        messages: Sequence[Any],
        *,
        tools: Sequence[Any] | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> TokenIds | RequestError:
        """Return the token ids of a conversation."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        ...


class PromptEncoder:
    """Encodes prompts of bulk rows and of interactive requests. Threads may share it.

    Attributes:
        tool_format: how the model writes tool calls, if that is known.
    """

    def __init__(self, tokenizer: Tokenizer, tool_format: str = AUTO) -> None:
        self._tokenizer = tokenizer
        named = None if tool_format == AUTO else ToolFormat(tool_format)
        self.tool_format = named or tokenizer.tool_format

    def encode_row(
        self,
        prompt: Prompt,
        tools: ToolUse | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> TokenIds | RequestError:
        """Encode a rendered row: a lone prompt becomes a chat where the model has a template."""
        if prompt.messages is not None:
            return self._guarded(None, prompt.messages, tools, template_options)
        if prompt.endpoint not in _PLAIN and self._tokenizer.has_chat_template:
            messages = [{"role": "user", "content": prompt.text}]
            return self._guarded(None, messages, tools, template_options)
        return self._guarded(prompt.text or "", None)

    def encode_request(self, request: InteractiveRequest) -> TokenIds | RequestError:
        """Encode an interactive request, which says itself whether it is a chat."""
        if request.token_ids is not None:
            return request.token_ids
        return self._guarded(
            request.prompt or "", request.messages, request.tools, request.template_options
        )

    def echo_of(self, request: InteractiveRequest, token_ids: TokenIds) -> str:
        """Return the text of the prompt, where the answer is to begin with it."""
        if not request.echo:
            return ""
        if request.prompt is not None:
            return request.prompt
        try:
            return self._tokenizer.decode(token_ids)
        except (ValueError, OverflowError):  # no token has such a number: the engine will say so
            return ""

    def _guarded(
        self,
        text: str | None,
        messages: Sequence[dict[str, Any]] | None,
        tools: ToolUse | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> TokenIds | RequestError:
        try:
            if messages is None:
                return self._tokenizer.encode(text or "")
            return self._tokenizer.encode_chat(
                messages,
                tools=tools.tools if tools else None,
                template_options=template_options,
            )
        except Exception as error:  # a tokenizer may choke on anything; its other rows go on
            message = f"the prompt cannot be tokenized: {error}"[:500]
            return RequestError(code="invalid_request", message=message, stage="tokenize")
