"""Keeps web pages out of an API that asks for no key. Knows browsers' habits, no route.

A page anywhere can make its reader's browser speak to this machine. What the browser says of
itself gives it away: the page's origin, or, after a trick with DNS, a name that is not ours.
"""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .auth import is_open
from .errors import ForeignPage, shown
from .principal import is_known


class SameSiteCheck:
    """ASGI middleware that refuses what a foreign web page sends; programs pass, and so do keys.

    A host without a dot is no name on the Internet, and an address needs no DNS: both are taken,
    and so are `own_hosts` and the name of this machine.
    """

    def __init__(self, app: ASGIApp, own_hosts: Iterable[str | None]) -> None:
        self._app = app
        own = {socket.gethostname(), *own_hosts}
        self._own_hosts = {host.lower() for host in own if host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http" and not is_open(scope["path"]) and not is_known(scope):
            refusal = self._refusal(scope["method"], Headers(scope=scope))
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> ForeignPage | None:
        host = headers.get("host", "")
        if not self._is_ours(_name_of(host)):
            return ForeignPage(
                f"without an API key this server does not answer to the name {shown(host)}: call "
                "it by its address, or set PENSTOCK_API_KEY on the server"
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return ForeignPage(f"without an API key no web page of {shown(origin)} is let in")
        is_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") == "cross-site" and not is_link:
            return ForeignPage("without an API key no web page of another site is let in")
        return None

    def _is_ours(self, name: str) -> bool:
        if name in self._own_hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return "." not in name
        return True


def _name_of(host: str) -> str:
    """Take the port off; what cannot be read is no name of ours."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".") or "."
    except ValueError:
        return "."
