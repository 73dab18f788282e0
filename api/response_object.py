"""OpenAI's response object while it comes into being. Knows shapes, does no IO.

Its output is a list of items: at most one message with one part of text, then the calls, if any.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from ..jobs.tool_use import ToolCall
from .errors import ApiError
from .generation import Part, Usage
from .response_schemas import ResponsesRequest


class Status(StrEnum):
    """How far a response is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self not in (Status.QUEUED, Status.IN_PROGRESS)


@dataclass(slots=True)
class MessageItem:
    """The text of an answer, as far as it has come."""

    id: str
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.texts)

    def to_object(self, status: Status) -> dict[str, Any]:
        """Return OpenAI's object, as it is when the response stands so."""
        is_whole = status is Status.COMPLETED
        told = "completed" if is_whole else "incomplete" if status.is_final else "in_progress"
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": told,
            "content": [text_part(self.text)],
        }


@dataclass(frozen=True, slots=True)
class CallItem:
    """A call; it comes as a whole."""

    call: ToolCall

    @property
    def id(self) -> str:
        """The id of the item, which is not that of the call."""
        return f"fc_{self.call.id.removeprefix('call_')}"

    def to_object(self, status: str = "completed") -> dict[str, Any]:
        """Return OpenAI's object."""
        return {
            "id": self.id,
            "type": "function_call",
            "call_id": self.call.id,
            "name": self.call.name,
            "arguments": self.call.arguments if status == "completed" else "",
            "status": status,
        }


def facts_of(body: ResponsesRequest) -> dict[str, Any]:
    """Return what a response repeats of its request, as plain data."""
    return {
        "background": bool(body.background),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": body.model,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": {"format": (body.text and body.text.format) or {"type": "text"}},
        "tool_choice": "auto" if body.tool_choice is None else body.tool_choice,
        "tools": [
            {"description": None, "parameters": None, "strict": None, **tool}
            for tool in body.tools or ()
        ],
        "top_p": body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }


class ResponseDraft:
    """A response as far as it is known."""

    def __init__(
        self,
        facts: Mapping[str, Any],
        *,
        response_id: str,
        created_at: int,
        status: Status = Status.IN_PROGRESS,
    ) -> None:
        self.id = response_id
        self.status = status
        self.items: list[MessageItem | CallItem] = []
        self._facts = facts
        self._created_at = created_at
        self._completed_at: int | None = None
        self._error: dict[str, Any] | None = None
        self._usage: dict[str, Any] | None = None

    @classmethod
    def of(cls, body: ResponsesRequest) -> Self:
        """Begin the response to a request."""
        response_id = f"resp_{secrets.token_hex(24)}"
        return cls(facts_of(body), response_id=response_id, created_at=int(time.time()))

    def add(self, part: Part) -> None:
        """Append what one step brought."""
        delta = part.delta
        self.add_text(delta.text)
        self.items += map(CallItem, delta.tool_calls)
        if delta.finish_reason is not None:
            self.conclude(delta.finish_reason)

    def add_text(self, text: str) -> None:
        """Append text; white space around calls is none."""
        message = next((item for item in self.items if isinstance(item, MessageItem)), None)
        if message is None and (text.strip() if self.items else text):
            message = self._new_message()
            self.items.append(message)
        if message is not None and text and (message is self.items[-1] or text.strip()):
            message.texts.append(text)

    def conclude(self, finish_reason: str) -> None:
        """Note why the answer ended; one that says nothing is an empty message."""
        is_cut = finish_reason == "length"
        self.status = Status.INCOMPLETE if is_cut else Status.COMPLETED
        if not self.items and not is_cut:
            self.items.append(self._new_message())

    def end(self, usage: Usage, at: int | None = None) -> None:
        """Note what the whole response took."""
        self._completed_at = int(time.time()) if at is None else at
        self._usage = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": 0,  # nothing is charged for it here
            },
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }

    def fail(self, error: ApiError) -> None:
        """Note why nothing more will come."""
        self.status = Status.FAILED
        self._error = {"code": error.code or "server_error", "message": error.message}

    def cancel(self) -> None:
        """Note that somebody took it back."""
        self.status = Status.CANCELLED

    def item_object(self, item: MessageItem | CallItem) -> dict[str, Any]:
        """Return an item as it stands now."""
        return item.to_object(self.status) if isinstance(item, MessageItem) else item.to_object()

    def _new_message(self) -> MessageItem:
        return MessageItem(f"msg_{self.id.removeprefix('resp_')}")

    def to_object(self) -> dict[str, Any]:
        """Return the whole object."""
        is_cut = self.status is Status.INCOMPLETE
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created_at,
            **self._facts,
            "status": self.status.value,
            "completed_at": self._completed_at if self.status is Status.COMPLETED else None,
            "error": self._error,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self.item_object(item) for item in self.items],
            "usage": self._usage,
        }


def text_part(text: str) -> dict[str, Any]:
    """Return a part of an item's content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
