"""POST /v1/chat/completions, as OpenAI's clients expect it."""

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...jobs.logprob_shapes import chat_logprobs
from ...jobs.template_options import template_options_of
from ...jobs.tool_use import ToolCall
from ..answer import Choice, answer, new_answer_id
from ..bodies import MAX_PROMPT_BYTES, json_body, read_json
from ..generation import Part, Usage
from ..schemas import ChatRequest
from ..services import TheServices

router = APIRouter(tags=["generation"])


@router.post("/v1/chat/completions", openapi_extra=json_body(ChatRequest))
async def create_chat_completion(request: Request, services: TheServices) -> Response:
    """Answer a conversation, in one piece or as a stream."""
    body = await read_json(request, ChatRequest, MAX_PROMPT_BYTES)
    messages = tuple(message.to_mapping() for message in body.messages)
    prompt = {
        "messages": messages,
        "tools": body.tool_use(),
        "template_options": template_options_of(body.chat_template_kwargs),
    }
    return await answer(request, services, body, [prompt], ChatShape(body.model, body.tier))


class ChatShape:
    """How a chat's answer looks on the wire."""

    def __init__(self, model: str, tier: str | None = None) -> None:
        self._head = {
            "id": new_answer_id("chatcmpl"),
            "created": int(time.time()),
            "model": model,
        }
        if tier is not None:
            self._head["service_tier"] = tier
        self._num_calls: dict[int, int] = {}  # choice -> tool calls told so far

    def whole(self, choices: list[Choice], usage: Usage) -> dict[str, Any]:
        """Return the answer in one piece."""
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [
                {
                    "index": choice.index,
                    "message": _message(choice),
                    "logprobs": chat_logprobs(choice.logprobs),
                    "finish_reason": choice.finish_reason,
                }
                for choice in choices
            ],
            "usage": usage.to_openai(),
        }

    def chunks(self, part: Part) -> list[dict[str, Any]]:
        """Return the frames that tell a part; a choice's first one names the role.

        Why an answer ended stands in a frame behind its calls: OpenAI's client takes a call to be
        whole only then.
        """
        delta, calls = part.delta, part.delta.tool_calls
        said: dict[str, Any] = {} if calls and not delta.text else {"content": delta.text}
        if part.choice not in self._num_calls:
            self._num_calls[part.choice] = 0
            said["role"] = "assistant"
        if calls:
            first = self._num_calls[part.choice]
            self._num_calls[part.choice] += len(calls)
            said["tool_calls"] = [
                {"index": index, **_tool_call(call)} for index, call in enumerate(calls, first)
            ]
        logprobs = chat_logprobs(delta.logprobs)
        if not calls or delta.finish_reason is None:
            return [self._frame(part.choice, said, logprobs, delta.finish_reason)]
        return [
            self._frame(part.choice, said, logprobs, None),
            self._frame(part.choice, {}, None, delta.finish_reason),
        ]

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the frame that only tells the usage."""
        return {
            **self._head,
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": usage.to_openai(),
        }

    def _frame(
        self, index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.tool_calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [_tool_call(call) for call in choice.tool_calls]
    return message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
