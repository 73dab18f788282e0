"""Answers on their way from the interactive lane to one client. Knows no wire format.

A request may hold several prompts and ask for several samples of each; their deltas arrive mixed
on one stream, told apart by `choice = prompt_index * n + sample_index`. Whoever opens a
`Generation` closes it, and closing early takes the work back from the engine.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from starlette.requests import Request

from ..jobs.frames import Delta, InteractiveRequest
from ..jobs.interactive import TAKEN_TIMEOUT_S, InteractiveLane
from ..jobs.model import RequestError
from .errors import ApiError, GenerationFailed, InvalidRequest, Unavailable
from .sse import disconnected
from .stopwatch import Stopwatch
from .waiting_line import Place, WaitingLine

# How long a stream waits for its first delta before it commits to status 200: a refusal that comes
# earlier gets a status of its own, which clients know how to try again; a later one goes in-band.
# That no worker takes the request must be among the former.
FIRST_DELTA_PATIENCE_S = TAKEN_TIMEOUT_S + 3.0
_FORM = "structured_outputs"  # as the engine calls it
_BEFORE_THE_ENGINE = frozenset({"validate", "render", "tokenize"})

Result = TypeVar("Result")


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one step added to one choice."""

    choice: int
    delta: Delta


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a whole request. A prompt counts once, however many samples it has."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def to_openai(self) -> dict[str, Any]:
        """Return OpenAI's `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Generation:
    """The merged deltas of all prompts of one HTTP request, as an async iterator of `Part`."""

    def __init__(
        self,
        line: WaitingLine,
        lane: InteractiveLane,
        requests: list[InteractiveRequest],
        n: int,
        watch: Stopwatch,
        *,
        form_param: str = _FORM,
    ) -> None:
        self._line = line
        self._place: Place | None = None
        self._n = n
        self._watch = watch
        self._num_choices = n * len(requests)
        self._prompt_param = "prompt" if requests[0].messages is None else "messages"
        self._form_param = form_param
        self._source = _merged(lane, requests, n)
        self._first: asyncio.Task[Part] | None = None
        self._last_of_choice: dict[int, Delta] = {}
        self._is_closed = False

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        last = self._last_of_choice
        firsts = [delta for choice, delta in last.items() if choice % self._n == 0]
        return Usage(
            prompt_tokens=sum(delta.prompt_tokens for delta in firsts),
            completion_tokens=sum(delta.completion_tokens for delta in last.values()),
            cached_tokens=sum(delta.cached_tokens for delta in firsts),
        )

    async def wait_for_first(self, patience_s: float = FIRST_DELTA_PATIENCE_S) -> bool:
        """Wait until something is there, but not for ever; what went wrong by then is raised."""
        began_s = time.perf_counter()
        self._first = asyncio.ensure_future(self._next())
        await asyncio.wait({self._first}, timeout=patience_s)
        self._watch.waited(began_s)
        if not self._first.done():
            return False
        self._first.result()
        return True

    def __aiter__(self) -> Self:
        """Iterate once."""
        return self

    async def __anext__(self) -> Part:
        """Return the next part, or raise the ApiError that ends this request."""
        began_s = time.perf_counter()
        try:
            if self._first is not None:
                first, self._first = self._first, None
                return await first
            return await self._next()
        finally:
            self._watch.waited(began_s)

    async def aclose(self) -> None:
        """Take back whatever is still running."""
        if self._first is not None:
            await _stop(self._first)
        await self._source.aclose()
        if self._place is not None:
            self._place.leave()
        if not self._is_closed:
            self._is_closed = True
            usage = self.usage
            self._watch.stop(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)

    async def _next(self) -> Part:
        if self._place is None:
            self._place = self._line.enter()
        try:
            part = await anext(self._source)
            self._place.serve()
        except StopAsyncIteration:
            ended = [d for d in self._last_of_choice.values() if d.finish_reason is not None]
            if len(ended) < self._num_choices:
                raise Unavailable("the answer broke off half-way", code="worker_lost") from None
            raise
        if part.delta.error is not None:
            raise refusal_of(part.delta.error, self._prompt_param, self._form_param)
        if part.delta.finish_reason == "abort":
            raise Unavailable("the worker stopped before the answer was complete", code="aborted")
        self._last_of_choice[part.choice] = part.delta
        self._watch.saw(part.choice, part.delta)
        return part


def refusal_of(error: RequestError, prompt_param: str, form_param: str = _FORM) -> ApiError:
    """Translate the fault of one row into an answer with a status.

    The engine says "prompt" for what a chat calls "messages"; `prompt_param` is the caller's word,
    and `form_param` the one for the form that the answer is to have.
    """
    if error.param == _FORM:
        message = error.message.replace(_FORM, form_param, 1)
        error = replace(error, param=form_param, message=message)
    param = prompt_param if error.param == "prompt" else error.param
    if error.stage in _BEFORE_THE_ENGINE or error.code.startswith(("invalid", "context_length")):
        return InvalidRequest(error.message, param=param, code=error.code)
    if error.retryable:
        return Unavailable(error.message, code=error.code)
    return GenerationFailed(error.message, param=param, code=error.code)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work while the client stays; cancel it and raise ClientGone when the client leaves."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(disconnected(request.receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await _stop(task, leaving)


async def _stop(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait for their end. Once is not enough: before Python 3.12 a cancellation
    is swallowed by an `asyncio.wait_for` whose result comes at the same moment.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=0.05)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or asyncio would complain that nobody looked


async def _merged(
    lane: InteractiveLane, requests: list[InteractiveRequest], n: int
) -> AsyncGenerator[Part, None]:
    if len(requests) == 1:  # nearly always; no queue, no task
        async with aclosing(lane.generate(requests[0])) as deltas:
            async for delta in deltas:
                yield Part(delta.sample_index, delta)
        return
    parts: asyncio.Queue[Part | Exception | None] = asyncio.Queue()

    async def run(prompt_index: int, request: InteractiveRequest) -> None:
        try:
            async with aclosing(lane.generate(request)) as deltas:
                async for delta in deltas:
                    parts.put_nowait(Part(prompt_index * n + delta.sample_index, delta))
            parts.put_nowait(None)
        except Exception as error:
            parts.put_nowait(error)

    tasks = [asyncio.create_task(run(index, request)) for index, request in enumerate(requests)]
    try:
        num_running = len(tasks)
        while num_running:
            part = await parts.get()
            if isinstance(part, Exception):
                raise part
            if part is None:
                num_running -= 1
            else:
                yield part
    finally:
        await _stop(*tasks)
