"""More chats than may wait, more connections than there is room for: a clear no, and when to come
again. Whoever comes again as told gets an answer.
"""

import asyncio
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI

from penstock.api.app import create_app
from penstock.api.generation import FIRST_DELTA_PATIENCE_S
from penstock.api.http_protocol import PatientProtocol
from penstock.api.open_files import OpenFiles
from penstock.jobs import interactive
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.interactive import TAKEN_TIMEOUT_S
from penstock.jobs.keys import Keys
from penstock.jobs.redis_client import connect
from penstock.jobs.workers import WorkerRegister
from tests.waiting import wait_for

from ..jobs.idle_workers import idle_worker
from .conftest import IDLE_MODEL, MODEL, Stack
from .serving import serving

ROOM = 3
PATIENCE_S = 60.0


@contextmanager
def worker_that_waits(stack: Stack) -> Iterator[None]:
    """Announce a worker that takes nothing: whoever asks for its model waits."""
    info = idle_worker("idle-1", IDLE_MODEL, slots=1, proved_at_ms=0)
    done = threading.Event()
    with connect(stack.settings) as client:
        register = WorkerRegister(client, Keys(stack.settings.namespace))

        def beat() -> None:
            while not done.wait(0.5):
                register.announce(info)

        register.announce(info)
        beating = threading.Thread(target=beat)
        beating.start()
        try:
            yield
        finally:
            done.set()
            beating.join()
            register.withdraw(info.name)


@pytest.fixture
def small(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, FastAPI]]:
    """A second door to the same stack, with a line of three places, in which one waits for long."""
    monkeypatch.setattr(interactive, "TAKEN_TIMEOUT_S", 10 * PATIENCE_S)
    app = create_app(replace(stack.settings, max_waiting_chats=ROOM))
    with worker_that_waits(stack), serving(app) as url:
        yield url, app


def body(model: str, text: str = "hello") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": True}


class Crowd:
    """People who wait for the model that nobody serves, until they are told to leave."""

    def __init__(self, url: str, app: FastAPI, size: int = ROOM) -> None:
        self._url = url
        self._app = app
        self._size = size
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def num_waiting(self) -> int:
        return len(self._app.state.services.line)

    def __enter__(self) -> "Crowd":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._come(), self._loop).result(PATIENCE_S)
        wait_for(lambda: self.num_waiting == self._size, "the line to be full")
        return self

    def leave(self) -> None:
        asyncio.run_coroutine_threadsafe(self._go(), self._loop).result(PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        wait_for(lambda: self.num_waiting == 0, "the line to be empty")

    async def _come(self) -> None:
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(self._size)]

    async def _go(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self) -> None:
        async with httpx2.AsyncClient(base_url=self._url, timeout=10 * PATIENCE_S) as http:
            await http.post("/v1/chat/completions", json=body(IDLE_MODEL))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/responses", {"input": "hello"}),
        ("/v1/embeddings", {"input": "hello"}),
    ],
)
def test_who_finds_the_line_full_is_told_when_to_come_again(
    small: tuple[str, FastAPI], path: str, content: dict[str, Any]
) -> None:
    url, app = small
    with Crowd(url, app) as crowd, httpx2.Client(base_url=url, timeout=PATIENCE_S) as http:
        answers = [http.post(path, json={"model": MODEL, **content}) for _ in range(3)]
        assert crowd.num_waiting == ROOM, "who is refused does not wait, nor push others out"
        assert http.get("/v1/models").status_code == 200, "whatever needs no engine goes on"
    for answer in answers:
        assert answer.status_code == 429, answer.text
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "overloaded")
        assert str(ROOM) in error["message"]
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "x-should-retry" not in answer.headers
    after = httpx2.post(url + path, json={"model": MODEL, **content}, timeout=PATIENCE_S)
    assert after.status_code == 200


def test_the_official_client_comes_again_and_is_answered(small: tuple[str, FastAPI]) -> None:
    url, app = small
    refusals: list[str] = []
    with ExitStack() as stack:
        client = stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="none"))
        for number in range(20):  # from how fast these go the server learns how fast the line is
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": f"{number}"}]
            )
        crowd = stack.enter_context(Crowd(url, app))

        def note(response: httpx2.Response) -> None:
            if response.status_code == 429:
                refusals.append(response.headers["retry-after"])
                crowd.leave()
                wait_for(lambda: crowd.num_waiting == 0, "the line to be empty")

        hooks = {"response": [note]}
        patient = stack.enter_context(
            openai.OpenAI(
                base_url=f"{url}/v1",
                api_key="none",
                http_client=openai.DefaultHttpxClient(event_hooks=hooks),
            )
        )
        answer = patient.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "patience"}]
        )
    assert len(refusals) == 1
    assert answer.choices[0].message.content == expected_text("patience", num_tokens=8)


class _FullHouse(PatientProtocol):
    open_files = staticmethod(lambda: OpenFiles(connections=1, refusals=1, followers=1))
    head_timeout_s = linger_s = min_idle_s = PATIENCE_S


class _FullOfSilence(_FullHouse):
    min_idle_s = -1.0


_HELLO = b"hello"


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = [(b"content-length", b"%d" % len(_HELLO))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _HELLO})


def _read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(4096), b""))


def _is_answered(guest: socket.socket) -> bool:
    """Ask for something on a connection that stays open, and hear the answer out."""
    guest.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(_HELLO):
        piece = guest.recv(4096)
        assert piece, f"it was closed behind {answer!r}"
        answer += piece
    return answer.startswith(b"HTTP/1.1 200 ")


def test_connections_beyond_the_room_are_refused_as_long_as_there_is_room_to_say_so() -> None:
    with serving(_hello, protocol=_FullHouse) as url, ExitStack() as guests:
        host, _, port = url.removeprefix("http://").partition(":")

        def connection() -> socket.socket:
            made = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
            return guests.enter_context(made)

        inside = connection()
        refused = connection()
        told = _read_all(refused)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 2" in told
        assert b'"code":"too_many_connections"' in told
        assert _read_all(connection()) == b"", "no room even for that"
        inside.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert _read_all(inside).startswith(b"HTTP/1.1 200 ")
        refused.close()
        statuses = (httpx2.get(url, timeout=PATIENCE_S).status_code for _ in itertools.count())
        wait_for(lambda: next(statuses) == 200, "room again")


def test_who_says_nothing_makes_room_for_who_does() -> None:
    with serving(_hello, protocol=_FullOfSilence) as url, ExitStack() as guests:
        host, _, port = url.removeprefix("http://").partition(":")
        silent, again = (
            guests.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
            for _ in range(2)
        )
        assert _is_answered(again)
        assert _read_all(silent) == b""
        other = httpx2.get(url, timeout=PATIENCE_S)
        assert other.status_code == 200, "what is kept alive makes room, too"
        assert _read_all(again) == b""


def test_who_has_been_silent_for_longest_makes_room_first() -> None:
    class House(_FullOfSilence):
        open_files = staticmethod(lambda: OpenFiles(connections=2, refusals=1, followers=1))

    with serving(_hello, protocol=House) as url, ExitStack() as guests:
        host, _, port = url.removeprefix("http://").partition(":")

        def connection() -> socket.socket:
            made = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
            return guests.enter_context(made)

        first = connection()
        assert _is_answered(first)
        second = connection()
        assert _is_answered(second)
        assert _is_answered(first), "since then the second has been silent for longer"
        third = connection()
        assert _is_answered(third)
        assert _read_all(second) == b""
        assert _is_answered(first)


def test_where_nobody_is_idle_there_is_nobody_to_make_room() -> None:
    class NoHouse(_FullOfSilence):
        open_files = staticmethod(lambda: OpenFiles(connections=0, refusals=1, followers=1))

    with serving(_hello, protocol=NoHouse) as url:
        assert httpx2.get(url, timeout=PATIENCE_S).status_code == 503


@pytest.mark.parametrize("limit", [256, 1_024, 4_096, 1 << 20])
def test_what_clients_may_have_open_leaves_some_for_the_rest(limit: int) -> None:
    room = OpenFiles.share_out(limit)
    assert room.followers >= limit // 4 or room.followers == 1_000
    assert room.connections + room.refusals + room.followers <= limit - 64


def test_a_stream_that_no_worker_takes_is_refused_with_a_status(
    small: tuple[str, FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "TAKEN_TIMEOUT_S", 0.5)
    assert FIRST_DELTA_PATIENCE_S > TAKEN_TIMEOUT_S + 1.0, "it is looked for once a second"
    url, _ = small
    answer = httpx2.post(f"{url}/v1/chat/completions", json=body(IDLE_MODEL), timeout=PATIENCE_S)
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "no_worker"
    assert answer.headers["retry-after"] == "5"
