"""A hundred streams, five of whose readers do not read: the others notice nothing of it."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from penstock.api.app import create_app
from penstock.jobs import interactive
from penstock.jobs.fake_engine import expected_text

from .conftest import MODEL, Stack
from .serving import serving

QUICK, SLOW = 95, 5
NUM_WORDS = 2_000
TEXT = "".join(f"{number:04} " for number in range(NUM_WORDS))  # each word is a step, and a frame
PATIENCE_S = 60.0
_CONTENT = re.compile(rb'"content":"([^"]*)"')
_EVENT_ID = re.compile(rb"^id: (\S+)$", re.MULTILINE)
_LIMITS = httpx2.Limits(max_connections=QUICK)


@pytest.fixture(scope="module")
def door(stack: Stack) -> Iterator[tuple[str, FastAPI]]:
    """A door of one's own to the shared stack, into which one can look."""
    app = create_app(stack.settings)
    with serving(app) as url:
        yield url, app


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


def drink_up(straw: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := straw.recv(1 << 16):
            received += chunk
    except ConnectionResetError:
        pass  # cut off, as somebody who read nothing for a minute may be
    straw.close()
    return received


async def whole_chat(http: httpx2.AsyncClient, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    asked = {"model": MODEL, "messages": messages, "stream": True}
    answer = await http.post("/v1/chat/completions", json=asked)
    assert answer.content.endswith(b"data: [DONE]\n\n"), answer.text
    return b"".join(_CONTENT.findall(answer.content)).decode()


def test_chats_that_nobody_reads_hold_up_no_others(door: tuple[str, FastAPI]) -> None:
    url, app = door
    messages = [{"role": "user", "content": f"[[say]]{TEXT}"}]
    asked = {"model": MODEL, "messages": messages, "max_tokens": NUM_WORDS, "stream": True}
    straws = [straw(url, "POST", "/v1/chat/completions", asked) for _ in range(SLOW)]

    async def read_the_others() -> list[str]:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=_LIMITS) as http:
            return await asyncio.gather(*(whole_chat(http, f"{n}") for n in range(QUICK)))

    texts = asyncio.run(read_the_others())
    assert texts == [expected_text(f"{n}", num_tokens=8) for n in range(QUICK)]
    backlogs = [stream.qsize() for stream in app.state.services.lane._streams.values()]
    assert len(backlogs) == SLOW, "all of the slow ones are still at it"
    assert max(backlogs) <= interactive._MAX_BACKLOG
    for received in map(drink_up, straws):
        said = b"".join(_CONTENT.findall(received)).decode()
        is_whole = received.endswith(b"data: [DONE]\n\n")
        assert said == TEXT if is_whole else TEXT.startswith(said)


def test_followers_who_fall_behind_come_back_and_miss_nothing(door: tuple[str, FastAPI]) -> None:
    url, _ = door
    rows = [{"n": number} for number in range(2_000)]
    job = {"model": MODEL, "prompt": "{{ row.n }}", "input": {"rows": rows}}
    path = f"/v1/jobs/{httpx2.post(f'{url}/v1/jobs', json=job).json()['id']}/events"
    straws = [straw(url, "GET", path) for _ in range(SLOW)]

    async def follow(http: httpx2.AsyncClient) -> bytes:
        return (await http.get(path)).content

    async def follow_all() -> list[bytes]:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=_LIMITS) as http:
            return await asyncio.gather(*(follow(http) for _ in range(QUICK)))

    streams = asyncio.run(follow_all())
    assert all(b"event: done\n" in each for each in streams)
    ids = max((_EVENT_ID.findall(each) for each in streams), key=len)
    assert len(ids) > 20, "a shard of 64 rows is one event"
    assert all(_EVENT_ID.findall(each) == ids[-len(_EVENT_ID.findall(each)) :] for each in streams)
    for number, each in enumerate(straws):
        seen = each.recv(500 + 700 * number)  # then it breaks off, in the middle of an event
        each.close()
        begun = _EVENT_ID.findall(seen.rpartition(b"\n\n")[0])
        assert begun or number == 0
        last = begun[-1] if begun else ids[0]
        rest = httpx2.get(url + path, headers={"last-event-id": last.decode()}, timeout=PATIENCE_S)
        assert _EVENT_ID.findall(rest.content) == ids[ids.index(last) + 1 :]
