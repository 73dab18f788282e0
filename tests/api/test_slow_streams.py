"""A hundred streams, five of whose readers do not read: the others notice nothing of it."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from penstock.api.app import create_app
from penstock.api.sse import EventStream
from penstock.jobs import interactive
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.keys import Keys
from penstock.jobs.redis_client import connect

from .conftest import MODEL, Stack
from .serving import serving

QUICK, SLOW = 95, 5
NUM_WORDS = 2_000
TEXT = "".join(f"{number:04} " for number in range(NUM_WORDS))  # each word is a step, and a frame
PATIENCE_S = 60.0
_CONTENT = re.compile(rb'"content":"([^"]*)"')
_EVENT_ID = re.compile(rb"^id: (\S+)$", re.MULTILINE)
_DEFAULTS = EventStream.__init__.__kwdefaults__ or {}
_LIMITS = httpx2.Limits(max_connections=QUICK)


@pytest.fixture(scope="module")
def door(stack: Stack) -> Iterator[tuple[str, FastAPI]]:
    """A door of one's own to the shared stack, into which one can look.

    It lets nobody go for being slow: however long the others take, those who do not read stay.
    """
    app = create_app(stack.settings)
    with pytest.MonkeyPatch.context() as patch, serving(app) as url:
        for limit in ("slow_s", "stuck_s"):
            patch.setitem(_DEFAULTS, limit, 3_600.0)
        yield url, app


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    """Closes what a test has opened, however it ends."""
    with ExitStack() as stack:
        yield stack


def straw(url: str, method: str, path: str, body: dict[str, Any] | None = None) -> socket.socket:
    """Open a stream whose window is small, and read nothing of it yet."""
    host, _, port = url.removeprefix("http://").partition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # keeps the far end's buffer small
    made.settimeout(PATIENCE_S)
    made.connect((host, int(port)))
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n"
    made.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return made


def wait_until_answered(app: FastAPI, stack: Stack) -> list[int]:
    """Wait until the engine has said all of it; return how much of each the API still holds."""
    streams = app.state.services.lane._streams
    keys = Keys(stack.settings.namespace)
    deadline = time.monotonic() + PATIENCE_S
    with connect(stack.settings) as client:
        redis: Any = client
        for request_id in list(streams):
            newest: Any = None
            while not newest or '"is_last":true' not in newest[0][1]["reply"]:
                assert time.monotonic() < deadline, f"{request_id} is not over: {newest}"
                newest = redis.xrevrange(keys.tail(request_id), count=1)
                time.sleep(0.05)
    return [stream.qsize() for stream in streams.values()]


def ids_after(url: str, last_id: bytes) -> list[bytes]:
    headers = {"last-event-id": last_id.decode()}
    return _EVENT_ID.findall(httpx2.get(url, headers=headers, timeout=PATIENCE_S).content)


async def whole_chat(http: httpx2.AsyncClient, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    asked = {"model": MODEL, "messages": messages, "stream": True}
    answer = await http.post("/v1/chat/completions", json=asked)
    assert answer.content.endswith(b"data: [DONE]\n\n"), answer.text
    return b"".join(_CONTENT.findall(answer.content)).decode()


def test_chats_that_nobody_reads_hold_up_no_others(
    stack: Stack, door: tuple[str, FastAPI], guests: ExitStack
) -> None:
    url, app = door
    messages = [{"role": "user", "content": f"[[say]]{TEXT}"}]
    asked = {"model": MODEL, "messages": messages, "max_tokens": NUM_WORDS, "stream": True}
    path = "/v1/chat/completions"
    straws = [guests.enter_context(straw(url, "POST", path, asked)) for _ in range(SLOW)]

    async def read_the_others() -> list[str]:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=_LIMITS) as http:
            return await asyncio.gather(*(whole_chat(http, f"{n}") for n in range(QUICK)))

    texts = asyncio.run(read_the_others())
    assert texts == [expected_text(f"{n}", num_tokens=8) for n in range(QUICK)]
    backlogs = wait_until_answered(app, stack)
    assert len(backlogs) == SLOW, "all of the slow ones are still at it"
    assert max(backlogs) <= interactive._MAX_BACKLOG
    for each in straws:
        seen = b"".join(each.recv(4_096) for _ in range(4))
        said = b"".join(_CONTENT.findall(seen)).decode()
        assert said
        assert TEXT.startswith(said)


def test_followers_who_fall_behind_come_back_and_miss_nothing(
    door: tuple[str, FastAPI], guests: ExitStack
) -> None:
    url, _ = door
    rows = [{"n": number} for number in range(2_000)]
    job = {"model": MODEL, "prompt": "{{ row.n }}", "input": {"rows": rows}}
    made = httpx2.post(f"{url}/v1/jobs", json=job, timeout=PATIENCE_S).json()
    path = f"/v1/jobs/{made['id']}/events"
    straws = [guests.enter_context(straw(url, "GET", path)) for _ in range(SLOW)]

    async def follow(http: httpx2.AsyncClient) -> bytes:
        return (await http.get(path)).content

    async def follow_all() -> list[bytes]:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=_LIMITS) as http:
            return await asyncio.gather(*(follow(http) for _ in range(QUICK)))

    streams = asyncio.run(follow_all())
    assert all(b"event: done\n" in each for each in streams)
    ids = ids_after(url + path, b"0-0")  # from the very beginning
    assert len(ids) > 20, "a shard of 64 rows is one event"
    for each in map(_EVENT_ID.findall, streams):
        if len(each) > 1:  # whoever comes after the end is told that there is one, and no more
            assert each == ids[-len(each) :]
    for number, each in enumerate(straws):
        seen = each.recv(500 + 700 * number)  # then it breaks off, in the middle of an event
        each.close()
        begun = [each for each in _EVENT_ID.findall(seen.rpartition(b"\n\n")[0]) if each in ids]
        last = begun[-1] if begun else b"0-0"
        assert ids_after(url + path, last) == (ids[ids.index(last) + 1 :] if begun else ids)
