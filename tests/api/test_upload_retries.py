"""An upload that breaks off is sent again whole, wherever it broke."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client import Client

from .scripted import job_json, parts_of, payload, sent_file

# Rows of 20 kB: what is read of the source at once is more than what is read of a file at once.
ROWS = [{"number": number, "text": f"{number:04} " * 4_000} for number in range(10)]
WHOLE = hashlib.sha256(sent_file(ROWS)).hexdigest()
CUTS = range(0, 200_000, 7_919)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.api.retry_policy.random.uniform", lambda low, high: 0.0)


class CutAt(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A connection whose first two sendings break off after so many bytes; then all is taken."""

    def __init__(self, num_bytes: int) -> None:
        self.received = ""
        self._num_bytes = num_bytes
        self._num_calls = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.SyncByteStream)
        sent = 0
        if self._breaks_off():
            for piece in request.stream:
                sent += len(piece)
                self._check(sent)
        return self._take(request, request.read())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        sent = 0
        if self._breaks_off():
            async for piece in request.stream:
                sent += len(piece)
                self._check(sent)
        return self._take(request, await request.aread())

    def _breaks_off(self) -> bool:
        self._num_calls += 1
        return self._num_calls <= 2

    def _check(self, sent: int) -> None:
        if sent > self._num_bytes:
            raise httpx2.WriteError("cut")

    def _take(self, request: httpx2.Request, body: bytes) -> httpx2.Response:
        self.received = hashlib.sha256(payload(parts_of(request)["file"])).hexdigest()
        return httpx2.Response(202, json=job_json())


def plainly() -> Iterator[dict[str, Any]]:
    yield from ROWS


async def slowly() -> AsyncIterator[dict[str, Any]]:
    for row in ROWS:
        yield row


def test_wherever_it_broke_off_the_next_sending_is_the_source() -> None:
    for num_bytes in CUTS:
        server = CutAt(num_bytes)
        with Client("http://test", transport=server) as client:
            client.jobs.submit(plainly(), prompt="p")
        assert server.received == WHOLE, f"cut after {num_bytes} bytes"


@pytest.mark.parametrize("source", [plainly, slowly])
def test_the_twin_for_asyncio_loses_nothing_either(source: Any) -> None:
    async def run() -> None:
        for num_bytes in CUTS:
            server = CutAt(num_bytes)
            async with AsyncClient("http://test", transport=server) as client:
                await client.jobs.submit(source(), prompt="p")
            assert server.received == WHOLE, f"cut after {num_bytes} bytes"

    asyncio.run(run())
