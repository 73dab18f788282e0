"""An answer that arrives piece by piece, for both clients. Knows the pieces, and not who asked.

The twins differ in nothing but who waits.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Self

import httpx2

from .chat_calls import read_chat_event
from .client_errors import ServerUnreachable, StreamFailed
from .records import ChatDelta


class ChatStream:
    """An answer that arrives piece by piece: iterate over it. Its connection always gets closed."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._deltas = self._read()

    def __iter__(self) -> Iterator[ChatDelta]:
        """Yield the pieces.

        Raises:
            StreamFailed: the server broke off and said why, or fell silent before the end.
            ServerUnreachable: the connection was cut.
        """
        return self._deltas

    def text(self) -> str:
        """Read to the end and join the pieces."""
        return "".join(delta.text for delta in self)

    def close(self) -> None:
        """Stop reading; the server stops generating."""
        self._response.close()

    def __enter__(self) -> Self:
        """Enter a block that closes the stream."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _read(self) -> Iterator[ChatDelta]:
        try:
            for event in httpx2.EventSource(self._response):
                delta = read_chat_event(event)
                if delta is None:
                    return
                yield delta
            raise StreamFailed("the stream ended before the answer did")
        except httpx2.TransportError as error:
            raise ServerUnreachable(f"the stream was cut off: {error}") from error
        finally:
            self._response.close()


class AsyncChatStream:
    """An answer that arrives piece by piece: use `async for`. Its connection always gets closed."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._deltas = self._read()

    def __aiter__(self) -> AsyncIterator[ChatDelta]:
        """Yield the pieces.

        Raises:
            StreamFailed: the server broke off and said why, or fell silent before the end.
            ServerUnreachable: the connection was cut.
        """
        return self._deltas

    async def text(self) -> str:
        """Read to the end and join the pieces."""
        return "".join([delta.text async for delta in self])

    async def close(self) -> None:
        """Stop reading; the server stops generating."""
        await self._response.aclose()

    async def __aenter__(self) -> Self:
        """Enter a block that closes the stream."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def _read(self) -> AsyncIterator[ChatDelta]:
        try:
            async for event in httpx2.EventSource(self._response):
                delta = read_chat_event(event)
                if delta is None:
                    return
                yield delta
            raise StreamFailed("the stream ended before the answer did")
        except httpx2.TransportError as error:
            raise ServerUnreachable(f"the stream was cut off: {error}") from error
        finally:
            await self._response.aclose()
