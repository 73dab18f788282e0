"""Every hostile request gets a clear refusal, every odd but harmless one an answer, and the engine
stays the process that it was.
"""

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.api.http_protocol import PatientProtocol
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings

from .conftest import IDLE_MODEL, worker_process
from .hostile.case import Case
from .hostile.cases import all_cases
from .hostile.replay import Replay
from .serving import serving

KEY = "sk-hostile-0123456789abcdef"
MODEL = "penstock-demo"


@dataclass(frozen=True)
class Target:
    """A server that asks for a key, with a worker that computes the demo model."""

    url: str
    settings: Settings
    replay: Replay
    values: dict[str, Any]
    worker_pid: int

    def engine_pids(self) -> set[str]:
        """Name the worker's processes, the engine's among them."""
        children = Path(f"/proc/{self.worker_pid}/task/{self.worker_pid}/children")
        return set(children.read_text().split())


@pytest.fixture(scope="module")
def target(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    data = tmp_path_factory.mktemp("hostile")
    with RedisServer(data / "redis", program=redis_server.program) as own_server:
        settings = Settings(
            data=str(data),
            redis_url=own_server.url,
            models=(MODEL, IDLE_MODEL),
            lease_s=2.0,
            api_key=KEY,
        )
        with (
            worker_process(settings, MODEL, data / "worker.log") as worker,
            serving(create_app(settings)) as url,
        ):
            deadline = time.monotonic() + 120
            while httpx2.get(f"{url}/readyz", timeout=60).status_code != 200:
                assert time.monotonic() < deadline, (data / "worker.log").read_text()[-4000:]
                time.sleep(0.1)
            key = {"authorization": f"Bearer {KEY}"}
            answer = httpx2.get(f"{url}/v1/models", headers=key, timeout=60)
            window = next(m["max_model_len"] for m in answer.json()["data"] if m["id"] == MODEL)
            values = {"KEY": KEY, "MODEL": MODEL, "MAX_LEN": window}
            target = Target(url, settings, Replay(url, KEY, MODEL), values, worker.pid)
            before = target.engine_pids()
            yield target
            assert target.engine_pids() == before, "the engine's process is another one now"


@pytest.mark.parametrize("fields", all_cases(), ids=lambda fields: fields["id"])
def test_an_odd_request_is_answered_as_it_should(target: Target, fields: dict[str, Any]) -> None:
    assert target.replay.complaint(Case(fields, target.values)) is None


_FORM = {"name": "a", "schema": {"type": "string", "pattern": "("}}
_CHAT_FORM = {"type": "json_schema", "json_schema": _FORM}
_MESSAGES = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("path", "said", "param"),
    [
        (
            "chat/completions",
            {"messages": _MESSAGES, "response_format": _CHAT_FORM},
            "response_format",
        ),
        (
            "responses",
            {"input": "a", "text": {"format": {"type": "json_schema", **_FORM}}},
            "text.format",
        ),
    ],
)
def test_a_form_that_cannot_be_is_called_as_the_caller_did(
    target: Target, path: str, said: dict[str, Any], param: str
) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"model": MODEL, **said}
    answer = httpx2.post(f"{target.url}/v1/{path}", json=body, headers=headers, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(f"{param} cannot be fulfilled: ")


class _Hasty(PatientProtocol):
    head_timeout_s = 0.2


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    more = scope["type"] == "http"
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def _what_comes(url: str, sent: bytes) -> bytes:
    address = url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    return received


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost"])
def test_a_head_that_never_ends_is_cut_off(sent: bytes) -> None:
    with serving(_echo, protocol=_Hasty) as url:
        received = _what_comes(url, sent)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"did not end within 0.2 s" in received


class _HastyAfterwards(PatientProtocol):
    """Waits for the first head as long as it takes, and for no other."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.head_timeout_s = 60.0
        super().connection_made(transport)

    def handle_events(self) -> None:
        self.head_timeout_s = _Hasty.head_timeout_s
        super().handle_events()


def test_a_second_head_that_never_ends_is_cut_off_too() -> None:
    with serving(_echo, protocol=_HastyAfterwards) as url:
        received = _what_comes(url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT")
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in received


def test_a_body_that_stops_coming_is_cut_off(target: Target) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    rest = "Content-Type: application/json\r\nContent-Length: 100\r\n\r\nhalf"
    hasty = replace(target.settings, body_timeout_s=1.0)
    with serving(create_app(hasty)) as url:
        received = _what_comes(url, (head + rest).encode())
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"nothing of the body has come for 1 s" in received
