"""How the clients reach `local://`: the stack is found or started with the first request.

Knows the seam that `httpx2` has for it. Nothing of a client changes but where its requests go.
"""

import asyncio

import httpx2

from .address import Address
from .local_link import LocalLink


def transport_for(address: Address) -> httpx2.BaseTransport | None:
    """Make the transport of a local address; any other needs none of ours."""
    return None if address.local is None else LocalTransport(LocalLink(address.local))


def async_transport_for(address: Address) -> httpx2.AsyncBaseTransport | None:
    """Make the transport of a local address; any other needs none of ours."""
    return None if address.local is None else AsyncLocalTransport(LocalLink(address.local))


class LocalTransport(httpx2.BaseTransport):
    """Sends requests to the stack of a link, which it holds until it is closed."""

    def __init__(self, link: LocalLink) -> None:
        self.link = link
        self._http = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, once the stack is there."""
        _direct(request, self.link.attach())
        return self._http.handle_request(request)

    def close(self) -> None:
        """Close all connections, and let the stack go."""
        self._http.close()
        self.link.release()


class AsyncLocalTransport(httpx2.AsyncBaseTransport):
    """Sends requests to the stack of a link, which it holds until it is closed."""

    def __init__(self, link: LocalLink) -> None:
        self.link = link
        self._http = httpx2.AsyncHTTPTransport()
        self._attaching = asyncio.Lock()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, once the stack is there."""
        async with self._attaching:
            server = self.link.server or await asyncio.to_thread(self.link.attach)
        _direct(request, server)
        return await self._http.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections, and let the stack go."""
        await self._http.aclose()
        await asyncio.to_thread(self.link.release)


def _direct(request: httpx2.Request, server: tuple[str, str]) -> None:
    """Give a request its way and its key."""
    url, key = httpx2.URL(server[0]), server[1]
    request.url = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)
    request.headers["Host"] = f"{url.host}:{url.port}"
    request.headers["Authorization"] = f"Bearer {key}"
