"""What happens to a job or a run until it ends, for both clients. Knows neither, nor their paths.

A connection that breaks is opened again behind the last event seen. The twins differ in nothing
but who waits.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx2

from .connection import AsyncConnection, Connection
from .records import JobEvent
from .retry_policy import RetryPolicy
from .talk import Talk

OpenEvents = Callable[[str | None, RetryPolicy], Talk[httpx2.Response]]  # behind an event's id

_REOPEN_S = 0.5  # before a broken stream is opened again


def follow(connection: Connection, open_events: OpenEvents) -> Iterator[JobEvent]:
    """Yield the events to the last one."""
    last_id = None
    while True:
        response = connection.run(open_events(last_id, connection.retry))
        try:
            for frame in httpx2.EventSource(response):
                event = _read(frame)
                if event.kind == "error":  # as good as a broken connection
                    break
                last_id = event.id or last_id
                yield event
                if event.kind == "done":
                    return
        except httpx2.TransportError:
            pass
        finally:
            response.close()
        time.sleep(_REOPEN_S)


async def follow_async(
    connection: AsyncConnection, open_events: OpenEvents
) -> AsyncIterator[JobEvent]:
    """Yield the events to the last one."""
    last_id = None
    while True:
        response = await connection.run(open_events(last_id, connection.retry))
        try:
            async for frame in httpx2.EventSource(response):
                event = _read(frame)
                if event.kind == "error":  # as good as a broken connection
                    break
                last_id = event.id or last_id
                yield event
                if event.kind == "done":
                    return
        except httpx2.TransportError:
            pass
        finally:
            await response.aclose()
        await asyncio.sleep(_REOPEN_S)


def _read(frame: httpx2.ServerSentEvent) -> JobEvent:
    return JobEvent(frame.id, frame.event, json.loads(frame.data) if frame.data else None)
