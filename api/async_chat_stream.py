"""An answer that arrives piece by piece, for asyncio. Knows the pieces, and not who asked.

`chat_stream` is the same without asyncio, and written from this: see `tests/api/twins.py`.
"""

from collections.abc import AsyncIterator
from typing import Self

import httpx2

from .chat_calls import read_chat_event
from .client_errors import ServerUnreachable, StreamFailed
from .records import ChatDelta


class AsyncChatStream:
    """An answer that arrives piece by piece: iterate over it. Its connection always gets closed."""

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
        """Read to the end and join the pieces; of `n` answers, those of the first."""
        return "".join([delta.text async for delta in self if not delta.index])

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
