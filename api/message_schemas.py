"""The messages of a conversation, as OpenAI's clients write them. Knows no template, no model."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .body_hints import TEXT_PARTS
from .errors import InvalidRequest, UnsupportedParameter
from .strict import Strict

MAX_TEXT_CHARS = 4_000_000  # four million tokens at the least favourable; no model has the room


def not_too_long(text: str) -> str:
    """Return a text that may be one of a prompt, or raise for pydantic to tell."""
    if len(text) > MAX_TEXT_CHARS:
        raise PydanticCustomError(
            "string_too_long", "may have at most {limit} characters", {"limit": MAX_TEXT_CHARS}
        )
    return text


def join_text_parts(content: Any, kinds: tuple[str, ...], param: str) -> Any:
    """Join the parts of a content that is a list; those of no such kind are no business of ours.

    Raises:
        UnsupportedParameter: a part is of another kind.
        InvalidRequest: a part has no text.
    """
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in kinds:
            raise UnsupportedParameter(
                f"{param} may hold text only; parts of type {repr(kind)[:40]} are not supported",
                param=param,
            )
        if not isinstance(part.get("text"), str):
            raise InvalidRequest("a text part needs a string in `text`", param=param)
        texts.append(part["text"])
    return "".join(texts)


def _as_text(content: Any) -> Any:
    return join_text_parts(content, ("text",), "messages")


def _known_role(role: str) -> str:
    """Return the role as chat templates know it: OpenAI's newer "developer" is "system"."""
    return "system" if role == "developer" else role


Role = Annotated[Literal["system", "developer", "user", "assistant"], AfterValidator(_known_role)]


class CalledFunction(Strict):
    """What the model called, as it was told: the arguments are JSON text."""

    name: str
    """The function's name."""
    arguments: str
    """The arguments, as JSON text."""


class MessageToolCall(Strict):
    """A call that the model made in an earlier turn."""

    id: str
    """By which the message with the result names the call."""
    type: Literal["function"] = "function"
    """There are no others."""
    function: CalledFunction
    """What was called."""


class ChatMessage(Strict):
    """One message of a conversation."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"], AfterValidator(_known_role)
    ]
    """Who says it; `developer` is another word for `system`, and `tool` brings the result of a
    call.
    """
    tool_calls: list[MessageToolCall] | None = None
    """What the assistant called; for the role `assistant` alone."""
    tool_call_id: str | None = None
    """Which call a message of the role `tool` answers; for that role alone."""
    # Only an answer that calls tools may go without.
    content: Annotated[
        str | None, BeforeValidator(_as_text), TEXT_PARTS, Field(validate_default=True)
    ] = None
    """A text, or a list of parts of type `text`. Only an assistant's message with calls may go
    without.
    """

    # An answer of ours, sent back as it came, carries these as null.
    not_supported: ClassVar = {
        "annotations": ([],),
        "audio": (),
        "function_call": (),
        "name": (),
        "refusal": (),
    }

    @model_validator(mode="after")
    def _check_parts(self) -> "ChatMessage":
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls are the assistant's")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of role tool, and no other, has a tool_call_id")
        return self

    @field_validator("content")
    @classmethod
    def _check_content(cls, content: str | None, info: ValidationInfo) -> str | None:
        is_call = info.data.get("role") == "assistant" and info.data.get("tool_calls")
        if content is None and not is_call:
            raise PydanticCustomError("missing", "content is required")
        return None if content is None else not_too_long(content)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data, as a chat template takes it."""
        return self.model_dump(exclude_none=True)
