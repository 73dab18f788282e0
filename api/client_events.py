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
    trail = _Trail(open_events)
    while True:
        response = connection.run(trail.open(connection.retry))
        try:
            for frame in httpx2.EventSource(response):
                if _is_silent(frame):
                    continue
                yield trail.read(frame)
                if trail.is_at_end:
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
    trail = _Trail(open_events)
    while True:
        response = await connection.run(trail.open(connection.retry))
        try:
            async for frame in httpx2.EventSource(response):
                if _is_silent(frame):
                    continue
                yield trail.read(frame)
                if trail.is_at_end:
                    return
        except httpx2.TransportError:
            pass
        finally:
            await response.aclose()
        await asyncio.sleep(_REOPEN_S)


class _Trail:
    """How far the events have been read, over however many connections."""

    def __init__(self, open_events: OpenEvents) -> None:
        self._open_events = open_events
        self._last_id: str | None = None
        self.is_at_end = False

    def open(self, retry: RetryPolicy) -> Talk[httpx2.Response]:
        """Open the events behind the last one that was read."""
        return self._open_events(self._last_id, retry)

    def read(self, frame: httpx2.ServerSentEvent) -> JobEvent:
        """Read the next event.

        Raises:
            httpx2.RemoteProtocolError: the server broke off; as good as a broken connection.
        """
        if frame.event == "error":
            raise httpx2.RemoteProtocolError(f"the events broke off: {frame.data[:200]}")
        self._last_id = frame.id or self._last_id
        self.is_at_end = frame.event == "done"
        return JobEvent(frame.id, frame.event, json.loads(frame.data) if frame.data else None)


def _is_silent(frame: httpx2.ServerSentEvent) -> bool:
    """Tell whether it was made of a comment or `retry:` alone: all events of ours have names."""
    return not frame.data and frame.event == "message"
