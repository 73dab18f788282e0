"""How talks are carried out, for both clients. Knows a transport, and nothing that is said.

What can be asked of a server (jobs, workflows, events) is given a connection, and never asks whose.
The twins differ in nothing but who waits.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Protocol, Self, TypeVar

import httpx2

from .retry_policy import RetryPolicy
from .talk import Talk

T = TypeVar("T")
Page = TypeVar("Page", covariant=True)


class Pager(Protocol[Page]):
    """Something that is asked for page by page."""

    @property
    def is_done(self) -> bool:
        """Whether there are no more pages."""
        ...

    def next_page(self, retry: RetryPolicy) -> Talk[Page]:
        """Fetch the next page."""
        ...


class Connection:
    """A transport with blocking sockets, and how patient a talk over it is."""

    def __init__(self, http: httpx2.Client, retry: RetryPolicy) -> None:
        self.retry = retry
        self._http = http

    def run(self, talk: Talk[T]) -> T:
        """Carry a talk out."""
        try:
            send = next(talk)
            while True:
                time.sleep(send.after_s)
                if send.upload is not None:
                    send.upload.rewind()
                try:
                    response = self._http.send(send.build(self._http), stream=send.stream)
                    if not response.is_success:
                        response.read()
                except httpx2.TransportError as error:
                    send = talk.throw(error)
                else:
                    send = talk.send(response)
        except StopIteration as end:
            return end.value

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Enter a block that closes the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


class AsyncConnection:
    """A transport for asyncio, and how patient a talk over it is."""

    def __init__(self, http: httpx2.AsyncClient, retry: RetryPolicy) -> None:
        self.retry = retry
        self._http = http

    async def run(self, talk: Talk[T]) -> T:
        """Carry a talk out."""
        try:
            send = next(talk)
            while True:
                await asyncio.sleep(send.after_s)
                if send.upload is not None:
                    await send.upload.async_rewind()
                try:
                    response = await self._http.send(send.build(self._http), stream=send.stream)
                    if not response.is_success:
                        await response.aread()
                except httpx2.TransportError as error:
                    send = talk.throw(error)
                else:
                    send = talk.send(response)
        except StopIteration as end:
            return end.value

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Enter a block that closes the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()


def pages(connection: Connection, pager: Pager[T]) -> Iterator[T]:
    """Yield page after page."""
    while not pager.is_done:
        yield connection.run(pager.next_page(connection.retry))


async def async_pages(connection: AsyncConnection, pager: Pager[T]) -> AsyncIterator[T]:
    """Yield page after page."""
    while not pager.is_done:
        yield await connection.run(pager.next_page(connection.retry))
