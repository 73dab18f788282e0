"""Frames, heartbeat and the end of a stream, over a real socket."""

import asyncio
import re
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message

from penstock.api.sse import DONE, PING, SLOW_CONSUMER, EventStream, frame
from tests.waiting import wait_for

from .serving import serving


class Streams:
    """An application whose streams note how they ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        routes = [Route("/count", self.count), Route("/silent", self.silent)]
        self.app = Starlette(routes=routes)

    async def count(self, request: Request) -> EventStream:
        return EventStream(self._numbers(), on_close=self._note("count closed"))

    async def silent(self, request: Request) -> EventStream:
        return EventStream(
            self._nothing(), ping_interval_s=0.05, on_close=self._note("silent closed")
        )

    async def _numbers(self) -> AsyncGenerator[bytes, None]:
        for number in range(3):
            yield frame({"n": number, "text": "a\nb\u2028c"}, event="tick", event_id=f"{number}-0")
        yield DONE

    async def _nothing(self) -> AsyncGenerator[bytes, None]:
        try:
            await asyncio.sleep(60)
            yield b""
        finally:
            self.ended.append("silent stopped")

    def _note(self, text: str):
        async def note() -> None:
            self.ended.append(text)

        return note


def test_a_frame_is_one_event_whatever_its_text_holds() -> None:
    encoded = frame({"text": "a\nb\r\nc"}, event="tick", event_id="7-0")
    assert encoded == b'id: 7-0\nevent: tick\ndata: {"text":"a\\nb\\r\\nc"}\n\n'


def test_a_stream_arrives_whole_and_unbuffered() -> None:
    streams = Streams()
    with serving(streams.app) as url:
        answer = httpx2.get(url + "/count", timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    assert answer.content.count(b"event: tick\n") == 3
    assert answer.content.endswith(DONE)
    assert streams.ended == ["count closed"]


def test_silence_is_filled_with_pings_and_leaving_stops_the_work() -> None:
    streams = Streams()
    with serving(streams.app) as url:
        with httpx2.stream("GET", url + "/silent", timeout=60) as answer:
            received = b""
            for chunk in answer.iter_raw():
                received += chunk
                if received.count(PING) >= 3:  # a slow reader gets several at once
                    break
        wait_for(lambda: "silent closed" in streams.ended, "the end of the work")
    assert received.replace(PING, b"") == b""
    assert streams.ended == ["silent stopped", "silent closed"]


def test_a_client_that_left_before_the_first_frame_is_noticed() -> None:
    streams = Streams()
    with serving(streams.app) as url:
        with httpx2.stream("GET", url + "/silent", timeout=60):
            pass
        wait_for(lambda: "silent closed" in streams.ended, "the end of the work")
    assert streams.ended[-1] == "silent closed"


async def _flood(asked: list[int] | None = None) -> AsyncGenerator[bytes, None]:
    for number in range(100_000):
        if asked is not None:
            asked.append(number)
        yield frame({"n": number, "text": "x" * 10_000}, event_id=f"{number}-0")


def test_who_reads_too_slowly_is_told_so_and_can_go_on() -> None:
    asked: list[int] = []
    looks: deque[int] = deque([0], maxlen=30)  # more than half a second of them

    async def flood(request: Request) -> EventStream:
        return EventStream(_flood(asked), slow_s=0.2)

    def is_stuck() -> bool:
        """Tell whether no frame was asked for in all the last looks: all buffers are full."""
        looks.append(len(asked))
        return len(set(looks)) == 1 and looks[0] > 0

    with serving(Starlette(routes=[Route("/flood", flood)])) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as reader:
            reader.sendall(b"GET /flood HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            reader.settimeout(60)
            wait_for(is_stuck, "the buffers of both ends to be full")
            received = b"".join(iter(lambda: reader.recv(1 << 20), b""))
    assert SLOW_CONSUMER in received[-1_000:]
    numbers = [int(number) for number in re.findall(rb"id: (\d+)-0", received)]
    assert numbers == list(range(len(numbers))), "no gap: it goes on from the last one"
    assert 0 < len(numbers) < 100_000


def test_who_does_not_read_at_all_is_let_go() -> None:
    ended: list[str] = []

    async def note() -> None:
        ended.append("closed")

    async def run() -> None:
        stream = EventStream(_flood(), stuck_s=0.05, on_close=note)
        num_sent = 0

        async def send(message: Message) -> None:
            nonlocal num_sent
            num_sent += 1
            if num_sent == 3:
                await asyncio.sleep(60)

        async def receive() -> Message:
            await asyncio.sleep(60)
            return {}

        await asyncio.wait_for(stream({}, receive, send), 60)

    asyncio.run(run())
    assert ended == ["closed"]


def test_who_takes_a_stream_through_a_straw_loses_the_connection() -> None:
    """Closing it would not do: what waits to be sent would hold it open until it is drunk up."""

    async def flood(request: Request) -> EventStream:
        return EventStream(_flood(), stuck_s=0.2)

    with serving(Starlette(routes=[Route("/flood", flood)])) as url, socket.socket() as straw:
        host, _, port = url.removeprefix("http://").partition(":")
        straw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        straw.settimeout(60)
        straw.connect((host, int(port)))
        straw.sendall(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while straw.recv(4):
                time.sleep(0.001)
