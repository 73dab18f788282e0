"""A request's body of several parts, the last of them a file of any size. Knows no transport."""

from collections.abc import AsyncIterator, Iterator, Mapping
from uuid import uuid4

import httpx2

from .payloads import Upload

_ESCAPES = str.maketrans({'"': "%22", "\\": "\\\\", "\r": "%0D", "\n": "%0A"})


class Multipart:
    """Small fields, then the part `file`. Without a known size it goes in chunks."""

    def __init__(self, fields: Mapping[str, str], upload: Upload) -> None:
        self._upload = upload
        boundary = uuid4().hex
        self.headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        disposition = "Content-Disposition: form-data; name="
        head = [
            f'--{boundary}\r\n{disposition}"{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        filename = upload.filename.translate(_ESCAPES)
        head.append(
            f'--{boundary}\r\n{disposition}"file"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head = "".join(head).encode("utf-8")
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        if upload.num_bytes is not None:
            total = len(self._head) + upload.num_bytes + len(self._tail)
            self.headers["Content-Length"] = str(total)

    def body_for(
        self, http: httpx2.Client | httpx2.AsyncClient
    ) -> Iterator[bytes] | AsyncIterator[bytes]:
        """Give the bytes in the way in which a client takes them."""
        return self._pieces() if isinstance(http, httpx2.Client) else self._async_pieces()

    def _pieces(self) -> Iterator[bytes]:
        yield self._head
        yield from self._upload.pieces()
        yield self._tail

    async def _async_pieces(self) -> AsyncIterator[bytes]:
        yield self._head
        async for piece in self._upload.async_pieces():
            yield piece
        yield self._tail
