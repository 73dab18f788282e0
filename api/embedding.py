"""Vectors of many prompts through the interactive lane, so many at a time. Knows no wire format."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass

from ..jobs.frames import Delta, InteractiveRequest
from ..jobs.interactive import InteractiveLane
from .errors import Unavailable
from .generation import refusal_of
from .stopwatch import Stopwatch
from .waiting_line import WaitingLine

AT_ONCE = 64  # of one request; an engine's step has room for some, and others wait, too


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of all prompts, in their order, as bytes: see `jobs.vectors`."""

    vectors: tuple[bytes, ...]
    prompt_tokens: int


async def embed_all(
    line: WaitingLine,
    lane: InteractiveLane,
    requests: list[InteractiveRequest],
    watch: Stopwatch,
) -> Embedded:
    """Bring all prompts through the engine; the fault of one is the fault of all.

    Raises:
        ApiError: what went wrong first.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def embed(request: InteractiveRequest) -> Delta:
        async with room:
            return await _last_delta(lane, request)

    place = line.enter()
    began_s = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(embed(request)) for request in requests]
        place.serve()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        place.leave()
        watch.waited(began_s)
    deltas = [task.result() for task in tasks]
    num_tokens = sum(delta.prompt_tokens for delta in deltas)
    watch.stop(num_tokens, 0, sum(delta.cached_tokens for delta in deltas))
    return Embedded(tuple(delta.vector or b"" for delta in deltas), num_tokens)


async def _last_delta(lane: InteractiveLane, request: InteractiveRequest) -> Delta:
    async with aclosing(lane.generate(request)) as deltas:
        async for delta in deltas:
            if delta.error is not None:
                raise refusal_of(delta.error, "input")
            if delta.vector is not None:
                return delta
    raise Unavailable("the answer broke off half-way", code="worker_lost")
