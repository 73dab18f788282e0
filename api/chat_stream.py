"""An answer that arrives piece by piece. Knows the pieces, and not who asked.

Written from `async_chat_stream`: see `tests/api/twins.py`.
"""

from collections.abc import Iterator
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
        """Read to the end and join the pieces; of `n` answers, those of the first."""
        return "".join([delta.text for delta in self if not delta.index])

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
