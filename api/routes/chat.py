"""POST /v1/chat/completions, as OpenAI's clients expect it."""

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..answer import Choice, answer, new_answer_id, token_entry
from ..bodies import MAX_JSON_BYTES, json_body, read_json
from ..generation import Part, Usage
from ..schemas import ChatRequest
from ..services import TheServices

router = APIRouter(tags=["generation"])


@router.post("/v1/chat/completions", openapi_extra=json_body(ChatRequest))
async def create_chat_completion(request: Request, services: TheServices) -> Response:
    """Answer a conversation, in one piece or as a stream."""
    body = await read_json(request, ChatRequest, MAX_JSON_BYTES)
    messages = tuple(message.to_mapping() for message in body.messages)
    return await answer(request, services, body, [{"messages": messages}], ChatShape(body.model))


class ChatShape:
    """How a chat's answer looks on the wire."""

    def __init__(self, model: str) -> None:
        self._head = {
            "id": new_answer_id("chatcmpl"),
            "created": int(time.time()),
            "model": model,
        }
        self._opened: set[int] = set()

    def whole(self, choices: list[Choice], usage: Usage) -> dict[str, Any]:
        """Return the answer in one piece."""
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [
                {
                    "index": choice.index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": _logprobs(choice.logprobs),
                    "finish_reason": choice.finish_reason,
                }
                for choice in choices
            ],
            "usage": usage.to_openai(),
        }

    def chunk(self, part: Part) -> dict[str, Any]:
        """Return one frame of a stream; a choice's first one names the role."""
        delta: dict[str, Any] = {"content": part.delta.text}
        if part.choice not in self._opened:
            self._opened.add(part.choice)
            delta["role"] = "assistant"
        choice = {
            "index": part.choice,
            "delta": delta,
            "logprobs": _logprobs(part.delta.logprobs),
            "finish_reason": part.delta.finish_reason,
        }
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the frame that only tells the usage."""
        return {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": usage.to_openai(),
        }


def _logprobs(tokens: Any) -> dict[str, Any] | None:
    if tokens is None:
        return None
    content = [
        {**token_entry(token), "top_logprobs": [token_entry(top) for top in token["top"]]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}
