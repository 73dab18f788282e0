"""One generation request from checked body to HTTP answer, whole or streamed.

Knows neither chats nor completions: a `Shape` knows how the answer looks on the wire.
"""

import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from fastapi import Request
from starlette.responses import Response

from ..jobs.frames import InteractiveRequest
from ..jobs.model import SamplingParams
from ..jobs.tool_use import ToolCall
from .errors import ApiError, InvalidRequest
from .generation import ClientGone, Generation, Part, Usage, unless_gone
from .generation_schemas import GenerationRequest
from .principal import principal_of
from .refusals import refusal_for
from .services import Services
from .sse import DONE, EventStream, frame
from .stopwatch import Stopwatch

CLIENT_GONE_STATUS = 499  # never seen by anybody; nginx's word for it in the log
MAX_CHOICES = 1024


@dataclass(slots=True)
class Choice:
    """One sample, gathered from its parts."""

    index: int
    texts: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[dict[str, Any]] | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """The sample's text so far."""
        return "".join(self.texts)

    def add(self, part: Part) -> None:
        """Append what one step brought."""
        self.texts.append(part.delta.text)
        self.tool_calls += part.delta.tool_calls
        self.finish_reason = part.delta.finish_reason
        if part.delta.logprobs is not None:
            self.logprobs = [*(self.logprobs or []), *part.delta.logprobs]


class Shape(Protocol):
    """How an answer looks on the wire."""

    def whole(self, choices: list[Choice], usage: Usage) -> dict[str, Any]:
        """Return the answer in one piece."""
        ...

    def chunks(self, part: Part) -> list[dict[str, Any]]:
        """Return the frames of a stream that tell a part."""
        ...

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Return the frame that only tells the usage."""
        ...


def new_answer_id(prefix: str) -> str:
    """Make an id for one answer."""
    return f"{prefix}-{secrets.token_hex(12)}"


async def answer(
    request: Request,
    services: Services,
    body: GenerationRequest,
    prompts: list[dict[str, Any]],
    shape: Shape,
) -> Response:
    """Generate for `prompts` and answer as the body wishes.

    Raises:
        ApiError: whatever went wrong before the first byte of the answer was sent.
    """
    watch = Stopwatch(services.meters, services.chats, body.model, request.scope)
    sampling = SamplingParams.from_mapping(body.sampling())
    await check_fits(services, body.model, sampling, len(prompts))
    requests = [
        InteractiveRequest(
            request_id=new_answer_id("gen"),
            model=body.model,
            sampling=sampling.to_mapping(),
            priority=body.priority,
            cache_salt=principal_of(request.scope).tenant,
            **prompt,
        )
        for prompt in prompts
    ]
    try:
        give_back = await stream_slot(request, services, is_wanted=bool(body.stream))
    except ClientGone:
        return Response(status_code=CLIENT_GONE_STATUS)
    form_param = "structured_outputs" if body.response_format is None else "response_format"
    generation = Generation(
        services.line, services.lane, requests, sampling.n, watch, form_param=form_param
    )

    async def close() -> None:
        give_back()
        await generation.aclose()

    try:
        await unless_gone(request, generation.wait_for_first())
        if body.stream:
            return EventStream(_frames(generation, shape, body.include_usage), on_close=close)
        choices = await unless_gone(request, _gather(generation))
    except ClientGone:
        await close()
        return Response(status_code=CLIENT_GONE_STATUS)
    except BaseException:
        await close()
        raise
    await close()
    return Response(
        msgspec.json.encode(shape.whole(choices, generation.usage)), media_type="application/json"
    )


async def stream_slot(
    request: Request, services: Services, *, is_wanted: bool
) -> Callable[[], None]:
    """Wait for a stream's place before the engine begins; return what gives it back.

    Raises:
        ClientGone: nobody waits any more.
        TooManyRequests: there was no place for too long.
    """
    if not is_wanted:
        return lambda: None
    return await unless_gone(request, services.streams.take(principal_of(request.scope)))


async def check_fits(
    services: Services, model: str, sampling: SamplingParams, num_prompts: int
) -> None:
    """Refuse early what the engine would refuse late."""
    if sampling.n * num_prompts > MAX_CHOICES:
        raise InvalidRequest(
            f"n={sampling.n} samples of {num_prompts} prompts are more than {MAX_CHOICES} answers;"
            " submit a job instead",
            param="n",
        )
    longest = await services.catalog.max_model_len(model)
    if sampling.max_tokens is not None and longest is not None and sampling.max_tokens >= longest:
        raise InvalidRequest(
            f"max_tokens={sampling.max_tokens} is too large: this model's maximum context length "
            f"is {longest} tokens, which prompt and answer share",
            param="max_tokens",
            code="context_length_exceeded",
        )


async def _gather(generation: Generation) -> list[Choice]:
    choices: dict[int, Choice] = {}
    async for part in generation:
        choices.setdefault(part.choice, Choice(part.choice)).add(part)
    return [choices[index] for index in sorted(choices)]


async def _frames(
    generation: Generation, shape: Shape, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the stream's frames; it ends with [DONE], or with an error frame where it breaks."""
    try:
        async for part in generation:
            for chunk in shape.chunks(part):
                yield frame({**chunk, "usage": None} if include_usage else chunk)
        if include_usage:
            yield frame(shape.usage_chunk(generation.usage))
        yield DONE
    except Exception as error:
        refusal = error if isinstance(error, ApiError) else refusal_for(error)
        yield frame(refusal.envelope())
