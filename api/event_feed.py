"""The events of one job or run, as a stream over HTTP. Knows neither: who looks at it is handed in.

Without Last-Event-ID the thing as it stands comes first; with it the stream goes on where it broke
off. A `reset` says that events were missed, and carries the thing as well. Who reads too slowly is
cut off with an `error` of the code `slow_consumer`, and goes on in the same way.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

import anyio
from fastapi import Request
from starlette.responses import Response

from ..jobs.events import DONE, RESET, STATUS
from .answer import CLIENT_GONE_STATUS, stream_slot
from .errors import InvalidRequest, Unavailable, shown
from .generation import ClientGone
from .refusals import refusal_for
from .services import Services
from .sse import SLOW_CONSUMER, STOPPING, EventStream, Frames, frame

EVENT_ID = re.compile(r"\d{1,20}-\d{1,20}")
HEARTBEAT_S = 5.0  # a page takes a server that is silent for three of these for one that is away
RETRY_FRAME = b"retry: 2000\n\n"  # how long, in ms, a client waits before it connects again

Look: TypeAlias = Callable[[], Awaitable[tuple[dict[str, Any], bool]]]


async def event_feed(
    request: Request, services: Services, subject: str, last_event_id: str | None, look: Look
) -> Response:
    """Stream what happens to `subject`; `look` shows it, and tells whether it has ended.

    Raises:
        InvalidRequest: the event's id is none.
        Unavailable: too many follow already.
    """
    if last_event_id is not None and not EVENT_ID.fullmatch(last_event_id):
        raise InvalidRequest(f"Last-Event-ID {shown(last_event_id)} is not one of ours")
    return await stream_to_follower(
        request, services, _frames(services, subject, last_event_id, look)
    )


async def stream_to_follower(request: Request, services: Services, frames: Frames) -> Response:
    """Send a follower frames for as long as it stays, in one of the places there are for such.

    Raises:
        Unavailable: too many follow already.
    """
    try:
        give_back = await stream_slot(request, services, is_wanted=True)
    except ClientGone:
        return Response(status_code=CLIENT_GONE_STATUS)
    ticket = object()  # whoever gets one of the places gives the same back
    try:
        services.followers.acquire_on_behalf_of_nowait(ticket)
    except anyio.WouldBlock:
        give_back()
        raise Unavailable(
            f"{services.followers.total_tokens:g} clients follow jobs already; try again later",
            code="too_many_followers",
        ) from None

    async def leave() -> None:
        give_back()
        services.followers.release_on_behalf_of(ticket)

    lead = b"event: error\n"
    return EventStream(
        frames,
        ping_interval_s=HEARTBEAT_S,
        on_close=leave,
        on_slow=lead + SLOW_CONSUMER,
        on_stop=lead + STOPPING,
    )


async def _frames(
    services: Services, subject: str, last_id: str | None, look: Look
) -> AsyncGenerator[bytes, None]:
    async def is_final() -> bool:
        return (await look())[1]

    yield RETRY_FRAME
    try:
        if last_id is None:
            now, has_ended = await look()
            yield frame(now, event=STATUS)
            if has_ended:
                yield frame((await look())[0], event=DONE)
                return
        async for event in services.events.follow(subject, last_id, is_final=is_final):
            data = (await look())[0] if event.kind in (RESET, DONE) else event.data
            yield frame(data, event=event.kind, event_id=event.id)
    except Exception as error:
        yield frame(refusal_for(error).envelope(), event="error")
