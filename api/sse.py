"""Server-sent events: frames, a heartbeat, and an end the moment the client leaves.

Knows nothing of what the frames say. A proxy must not hold them back, hence the headers. Nothing is
kept for a client that reads too slowly: it is told so and let go, and may come back for the rest.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .errors import ServerStopping

PING_INTERVAL_S = 15.0
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
SLOW_S = 10.0  # a client that takes longer for one frame is told to come back
STUCK_S = 60.0  # one that takes this long is left alone

Frames = AsyncGenerator[bytes, None]
_HANG_UP = "penstock.hang_up"  # an extension of ASGI: ends a connection with what waits in it
logger = logging.getLogger("penstock.api")


def frame(data: object, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Encode one event; JSON has no raw line breaks, so one `data:` line holds it."""
    lead = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
    if event is not None:
        lead += b"event: " + event.encode() + b"\n"
    return lead + b"data: " + msgspec.json.encode(data) + b"\n\n"


SLOW_CONSUMER = frame(
    {
        "error": {
            "message": "the stream was read too slowly, and ends here; open it again to go on",
            "type": "invalid_request_error",
            "param": None,
            "code": "slow_consumer",
        }
    }
)
STOPPING = frame(ServerStopping().envelope())


class EventStream(Response):
    """An answer that sends `frames` as they come, and closes them when nobody listens any more.

    A client that is too slow gets `on_slow` as its last frame; one that still listens when the
    server has to end, `on_stop`.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: Frames,
        *,
        ping_interval_s: float = PING_INTERVAL_S,
        on_close: Callable[[], Awaitable[None]] | None = None,
        on_slow: bytes = SLOW_CONSUMER,
        on_stop: bytes = STOPPING,
        slow_s: float = SLOW_S,
        stuck_s: float = STUCK_S,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._on_close = on_close
        self._ping_interval_s = ping_interval_s
        self._on_slow = on_slow
        self._on_stop = on_stop
        self._slow_s = slow_s
        self._stuck_s = stuck_s
        self._last_sent_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or as much as the client stays for."""

        async def send_body(body: bytes, more: bool = True) -> None:
            self._last_sent_s = time.monotonic()
            with anyio.fail_after(self._stuck_s):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._last_sent_s = time.monotonic()
            await self._send_frames(receive, send_body)
        except* TimeoutError:
            logger.info("a client that did not read for %g s was let go", self._stuck_s)
            await _hang_up(scope)
        finally:
            with anyio.CancelScope(shield=True):
                await self._frames.aclose()
                if self._on_close is not None:
                    await self._on_close()

    async def _send_frames(
        self, receive: Receive, send_body: Callable[..., Awaitable[None]]
    ) -> None:
        """Send frames to the last, or until the client leaves or the server has to end."""
        try:
            async with anyio.create_task_group() as group:

                async def end_all_after(step: Callable[[], Awaitable[None]]) -> None:
                    await step()
                    group.cancel_scope.cancel()

                async def pump() -> None:
                    async for body in self._frames:
                        began_s = time.monotonic()
                        await send_body(body)
                        if time.monotonic() - began_s > self._slow_s:
                            await send_body(self._on_slow)
                            break
                    await send_body(b"", False)

                group.start_soon(end_all_after, pump)
                group.start_soon(end_all_after, lambda: disconnected(receive))
                group.start_soon(self._ping, send_body)
        except asyncio.CancelledError:
            await send_body(self._on_stop, False)
            raise

    async def _ping(self, send_body: Callable[[bytes], Awaitable[None]]) -> None:
        """Keep proxies and clients from taking a long thought for a dead connection."""
        while True:
            quiet_s = time.monotonic() - self._last_sent_s
            if quiet_s >= self._ping_interval_s:
                await send_body(PING)
                quiet_s = 0.0
            await anyio.sleep(self._ping_interval_s - quiet_s)


def offer_to_hang_up(scope: Scope, hang_up: Callable[[], None]) -> None:
    """Let the application end the request's connection, whatever still waits to be sent."""
    scope.setdefault("extensions", {})[_HANG_UP] = hang_up


async def _hang_up(scope: Scope) -> None:
    """Leave no connection to a client that takes nothing: closing alone would wait for it."""
    hang_up = scope.get("extensions", {}).get(_HANG_UP)
    if hang_up is not None:
        hang_up()
        await anyio.sleep(0)  # so that the server knows before this answer ends unfinished


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
