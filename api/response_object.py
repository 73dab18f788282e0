"""OpenAI's response object while it comes into being, and the events that tell of it.

Knows shapes, does no IO. A response here has one output item, a message with one part of text:

    created  in_progress  item added  part added  delta ... delta  text done  part done  item done
                                                                    completed | incomplete | failed
"""

import secrets
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from .errors import ApiError
from .generation import Part, Usage
from .response_schemas import ResponsesRequest
from .sse import frame


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


class ResponseDraft:
    """A response as far as it is known."""

    def __init__(self, body: ResponsesRequest) -> None:
        self.id = f"resp_{secrets.token_hex(24)}"
        self.item_id = f"msg_{secrets.token_hex(24)}"
        self.status = Status.QUEUED if body.background else Status.IN_PROGRESS
        self._facts = {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
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
            "tool_choice": "auto",
            "tools": [],
            "top_p": body.top_p,
            "truncation": "disabled",
            "user": body.user,
        }
        self._texts: list[str] = []
        self._has_begun = False
        self._completed_at: int | None = None
        self._error: dict[str, Any] | None = None
        self._usage: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def begin(self) -> None:
        """Note that the engine is at work on it."""
        self.status, self._has_begun = Status.IN_PROGRESS, True

    def add(self, part: Part) -> None:
        """Append what one step brought."""
        self._texts.append(part.delta.text)
        if part.delta.finish_reason is not None:
            is_cut = part.delta.finish_reason == "length"
            self.status = Status.INCOMPLETE if is_cut else Status.COMPLETED

    def end(self, usage: Usage) -> None:
        """Note what the whole response took."""
        self._completed_at = int(time.time())
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

    def item(self) -> dict[str, Any]:
        """Return the one output item."""
        is_whole = self.status is Status.COMPLETED
        status = "completed" if is_whole else "incomplete" if self.status.is_final else None
        return {
            "id": self.item_id,
            "type": "message",
            "role": "assistant",
            "status": status or "in_progress",
            "content": [text_part(self.text)],
        }

    def to_object(self) -> dict[str, Any]:
        """Return the whole object."""
        is_cut = self.status is Status.INCOMPLETE
        has_output = self._has_begun and (self.text or self.status is Status.COMPLETED)
        return {
            **self._facts,
            "status": self.status.value,
            "completed_at": self._completed_at if self.status is Status.COMPLETED else None,
            "error": self._error,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self.item()] if has_output else [],
            "usage": self._usage,
        }


class EventTeller:
    """Turns the life of a draft into frames with a running number."""

    def __init__(self, draft: ResponseDraft) -> None:
        self._draft = draft
        self._next_number = 0

    def begin(self) -> Iterator[bytes]:
        """Say that there is a response, and open its one item and part."""
        empty = {**self._draft.item(), "content": []}
        yield self._whole("response.created")
        yield self._whole("response.in_progress")
        yield self._frame("response.output_item.added", output_index=0, item=empty)
        yield self._of_part("response.content_part.added", part=text_part(""))

    def delta(self, text: str) -> bytes:
        """Tell new text."""
        return self._of_part("response.output_text.delta", delta=text, logprobs=[])

    def end(self) -> Iterator[bytes]:
        """Close part, item and response."""
        text = self._draft.text
        yield self._of_part("response.output_text.done", text=text, logprobs=[])
        yield self._of_part("response.content_part.done", part=text_part(text))
        yield self._frame("response.output_item.done", output_index=0, item=self._draft.item())
        yield self.last()

    def last(self) -> bytes:
        """Say how the response ended."""
        return self._whole(f"response.{self._draft.status.value}")

    def _whole(self, kind: str) -> bytes:
        return self._frame(kind, response=self._draft.to_object())

    def _of_part(self, kind: str, **facts: Any) -> bytes:
        place = {"item_id": self._draft.item_id, "output_index": 0, "content_index": 0}
        return self._frame(kind, **place, **facts)

    def _frame(self, kind: str, **facts: Any) -> bytes:
        number, self._next_number = self._next_number, self._next_number + 1
        return frame({"type": kind, "sequence_number": number, **facts}, event=kind)


def text_part(text: str) -> dict[str, Any]:
    """Return a part of an item's content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
