"""POST /v1/completions: plain continuation of texts or token ids."""

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...jobs.logprob_shapes import completion_logprobs
from ..answer import Choice, answer, new_answer_id
from ..bodies import MAX_PROMPT_BYTES, json_body, read_json
from ..generation import Part, Usage
from ..schemas import CompletionRequest
from ..services import TheServices

router = APIRouter(tags=["generation"])


@router.post("/v1/completions", openapi_extra=json_body(CompletionRequest))
async def create_completion(request: Request, services: TheServices) -> Response:
    """Continue one or several prompts, in one piece or as a stream."""
    body = await read_json(request, CompletionRequest, MAX_PROMPT_BYTES)
    echo = bool(body.echo)
    prompts = [
        {"prompt": prompt, "echo": echo}
        if isinstance(prompt, str)
        else {"token_ids": prompt, "echo": echo}
        for prompt in body.prompts
    ]
    return await answer(request, services, body, prompts, CompletionShape(body.model))


class CompletionShape:
    """How a completion looks on the wire."""

    def __init__(self, model: str) -> None:
        self._head = {
            "id": new_answer_id("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._offset_of: dict[int, int] = {}  # choice -> characters sent so far

    def whole(self, choices: list[Choice], usage: Usage) -> dict[str, Any]:
        """Return the answer in one piece."""
        return {
            **self._head,
            "choices": [
                {
                    "index": choice.index,
                    "text": choice.text,
                    "logprobs": completion_logprobs(choice.logprobs),
                    "finish_reason": choice.finish_reason,
                }
                for choice in choices
            ],
            "usage": usage.to_openai(),
        }

    def chunks(self, part: Part) -> list[dict[str, Any]]:
        """Return the one frame that tells a part."""
        offset = self._offset_of.get(part.choice, 0)
        self._offset_of[part.choice] = offset + len(part.delta.text)
        choice = {
            "index": part.choice,
            "text": part.delta.text,
            "logprobs": completion_logprobs(part.delta.logprobs, offset),
            "finish_reason": part.delta.finish_reason,
        }
        return [{**self._head, "choices": [choice]}]

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the frame that only tells the usage."""
        return {**self._head, "choices": [], "usage": usage.to_openai()}
