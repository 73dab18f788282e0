"""What a request may weigh, and how long its body may keep us waiting. Knows no route.

Bodies are counted by whoever reads them, as each route has a limit of its own (`bodies`, `upload`).
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import OtherStatus

MAX_HEADER_BYTES = 64 << 10
MAX_HEADERS = 200
MAX_PATH_BYTES = 8 << 10


class RequestLimits:
    """ASGI middleware; what it refuses has not been read any further."""

    def __init__(self, app: ASGIApp, body_idle_s: float) -> None:
        self._app = app
        self._body_idle_s = body_idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 414 or 431; a body that stops arriving is a 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = _refusal(scope)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        await self._app(scope, self._impatient(receive), send)

    def _impatient(self, receive: Receive) -> Receive:
        """Return `receive` with a limit to each wait for more of the body, and to no other wait."""
        has_ended = False

        async def receive_in_time() -> Message:
            nonlocal has_ended
            if has_ended:  # what comes now is the news that the client has left
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._body_idle_s)
            except TimeoutError:
                text = f"nothing of the body has come for {self._body_idle_s:g} s"
                raise OtherStatus(408, text, {"connection": "close"}) from None
            has_ended = not message.get("more_body", False)
            return message

        return receive_in_time


def _refusal(scope: Scope) -> OtherStatus | None:
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_PATH_BYTES:
        return OtherStatus(414, f"the address may hold at most {MAX_PATH_BYTES} bytes", {})
    num_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
    if num_bytes > MAX_HEADER_BYTES or len(scope["headers"]) > MAX_HEADERS:
        message = (
            f"headers may be at most {MAX_HEADERS} and hold {MAX_HEADER_BYTES} bytes, got "
            f"{len(scope['headers'])} with {num_bytes}"
        )
        return OtherStatus(431, message, {})
    return None
