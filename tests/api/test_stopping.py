"""What clients hear that still wait when the server has to end."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.meters import Meters
from penstock.api.request_context import RequestContext
from penstock.api.sse import EventStream, frame

from .serving import serving


class Endless:
    """An application that has no answer ready when it is told to stop."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.has_closed = threading.Event()
        self.app = Starlette(
            routes=[Route("/answer", self.answer), Route("/stream", self.stream)],
            middleware=[Middleware(RequestContext, meters=Meters())],
        )

    async def answer(self, request: Request) -> Response:
        self.has_begun.set()
        await asyncio.Event().wait()
        raise AssertionError("it goes on for ever")

    async def stream(self, request: Request) -> EventStream:
        return EventStream(self._frames(), on_close=self._note)

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        yield frame({"n": 1})
        self.has_begun.set()
        await asyncio.Event().wait()

    async def _note(self) -> None:
        self.has_closed.set()


def _what_comes(endless: Endless, path: str) -> httpx2.Response:
    with ThreadPoolExecutor(1) as client:
        with serving(endless.app, grace_s=0) as url:
            answer = client.submit(httpx2.get, url + path, timeout=60)
            assert endless.has_begun.wait(60)
        return answer.result()


def test_who_waits_for_an_answer_is_told_to_ask_again() -> None:
    answer = _what_comes(Endless(), "/answer")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "server_stopping"
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_stream_ends_with_an_error_and_is_closed() -> None:
    endless = Endless()
    answer = _what_comes(endless, "/stream")
    first, last = answer.text.strip().split("\n\n")
    assert json.loads(first.removeprefix("data: ")) == {"n": 1}
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopping"
    assert endless.has_closed.is_set()
