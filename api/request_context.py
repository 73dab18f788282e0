"""What every request gets, whatever its route: an id, a stopwatch and a last-resort answer."""

import asyncio
import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, InvalidRequest, ServerStopping
from .meters import Meters

_GOOD_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_WAITED = "penstock.waited_s"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_log = logging.getLogger("penstock.api")


def note_wait(scope: Scope, seconds: float) -> None:
    """Tell that so much of a request's time was spent waiting for an engine, none of it here."""
    scope[_WAITED] = scope.get(_WAITED, 0.0) + seconds


class RequestContext:
    """ASGI middleware, the outermost of ours."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Number the request, let it run, measure it; a stack trace goes to the log only."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        self._meters.begin_request()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        status: int | None = None

        async def send_numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["x-request-id"] = request_id
                own_s = time.perf_counter() - started_s - scope.get(_WAITED, 0.0)
                answer["x-overhead-ms"] = f"{max(own_s, 0.0) * 1000:.2f}"
            await send(message)

        try:
            if "transfer-encoding" in headers and "content-length" in headers:
                # Two opinions on where the body ends are how requests are smuggled past a proxy.
                refusal = InvalidRequest("send content-length or transfer-encoding, not both")
                await refusal.response()(scope, receive, send_numbered)
            else:
                await self._app(scope, receive, send_numbered)
        except asyncio.CancelledError:
            # The server's grace is over, and there is nobody behind us who would need to know.
            if status is None:
                await ServerStopping().response()(scope, receive, send_numbered)
        except Exception:
            _log.exception("request %s failed: %s %r", request_id, scope["method"], scope["path"])
            if status is None:
                failure = ApiError(f"internal error; the log has it under request {request_id}")
                await failure.response()(scope, receive, send_numbered)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            # 499 is nginx's word for a client that left before there was an answer.
            self._meters.count_request(
                method, _route(scope), status or 499, time.perf_counter() - started_s
            )


def _request_id(headers: Headers) -> str:
    """Take the caller's id when it is harmless, else make one."""
    given = headers.get("x-request-id", "")
    return given if _GOOD_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """Return an id that no other request has."""
    return f"req_{secrets.token_hex(12)}"


def _route(scope: Scope) -> str:
    """Name the pattern that matched, so that labels stay few."""
    return getattr(scope.get("route"), "path", "none")
