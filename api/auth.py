"""Who may come in: whoever holds the one key, where one is set. Knows no route and no user."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import InvalidKey

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


class KeyCheck:
    """ASGI middleware that asks every route but the health checks for `Authorization: Bearer`."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            refusal = self._refusal(Headers(scope=scope))
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> InvalidKey | None:
        given = headers.getlist("authorization")
        if not given:
            return InvalidKey("this server asks for a key: send `Authorization: Bearer <key>`")
        scheme, _, key = given[0].partition(" ")
        is_right = hmac.compare_digest(key.strip().encode(), self._key)  # in constant time
        if len(given) > 1 or scheme.lower() != "bearer" or not is_right:
            return InvalidKey(
                "the API key is not valid; it must equal the server's PENSTOCK_API_KEY"
            )
        return None
