"""Input that travels with the request: its parts, its bad lines, and how little of it is held."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel
from starlette.requests import Request

from penstock.api.bodies import read_json

from .conftest import Stack
from .plain_jobs import TASK, jsonl, results, rows, wait


@pytest.mark.parametrize("file_first", [False, True])
def test_an_upload_in_either_order_of_its_parts(http: httpx2.Client, file_first: bool) -> None:
    task = ("request", (None, json.dumps({**TASK, "id": "key"}), "application/json"))
    file = ("file", ("input.jsonl", jsonl(rows(3)), "application/octet-stream"))
    answer = http.post("/v1/jobs", files=[file, task] if file_first else [task, file])
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    wait(http, answer.json()["id"])
    assert [row["custom_id"] for row in results(http, answer.json()["id"])] == ["k0", "k1", "k2"]


def test_bad_lines_are_counted_and_told_and_the_rest_runs(http: httpx2.Client) -> None:
    content = b'{"text": "a"}\n{broken\n\n["list"]\n{"text": "[[fail]]"}\n{"text": "\xff"}\n'
    answer = http.post(
        "/v1/jobs", data={"request": json.dumps(TASK)}, files={"file": ("in.jsonl", content)}
    )
    job = answer.json()
    assert job["rejected"]["count"] == 3
    assert [bad["line"] for bad in job["rejected"]["errors"]] == [2, 4, 6]
    assert all(bad["message"] for bad in job["rejected"]["errors"])
    done = wait(http, job["id"])
    assert done["status"] == "completed_with_errors"
    assert (done["counts"]["succeeded"], done["counts"]["failed"]) == (1, 1)
    assert done["counts"]["rejected"] == 3
    errors = http.get(f"/v1/jobs/{job['id']}/errors").json()
    assert [entry.get("line") for entry in errors["data"]] == [2, 4, 6, None]
    assert errors["data"][3]["error"]["code"] == "engine_error"
    assert not errors["has_more"]
    [failed] = results(http, job["id"], status="failed")
    assert failed["output"] is None


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([("request", json.dumps(TASK))], "no part `file`"),
        ([("file", "{}")], "no part `request`"),
        ([("request", "{"), ("file", "{}")], "not valid JSON"),
        ([("file", "{}"), ("file", "{}")], "twice"),
        ([("other", "x")], "unknown part 'other'"),
        ([("request", json.dumps({**TASK, "input": {"path": "x"}})), ("file", "{}")], "input"),
    ],
)
def test_bad_uploads(http: httpx2.Client, parts: list[tuple[str, str]], words: str) -> None:
    answer = http.post("/v1/jobs", files=[(name, (name, text)) for name, text in parts])
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no boundary in here"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data"),
    ],
)
def test_broken_multipart(http: httpx2.Client, content_type: str, body: bytes) -> None:
    answer = http.post("/v1/jobs", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400, answer.text


def test_a_large_body_is_read_beside_the_event_loop() -> None:
    class Body(BaseModel):
        text: str

        def model_post_init(self, context: object) -> None:
            read_in.append(threading.current_thread())

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"text": texts.pop()}).encode()}

    texts = ["short", "long" * 100_000]
    read_in: list[threading.Thread] = []
    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    while texts:
        asyncio.run(read_json(Request(scope, receive), Body, 1 << 20))
    assert [thread is threading.main_thread() for thread in read_in] == [False, True]


def test_a_large_upload_is_not_held_in_memory(http: httpx2.Client, stack: Stack) -> None:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
        for _ in range(64):
            yield b"x" * (1 << 20)
        yield b'\r\n--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n{\r\n--b--\r\n'

    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before_kib = peak_rss_kib()
    answer = http.post(
        "/v1/jobs", content=body(), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 400
    assert "not valid JSON" in answer.json()["error"]["message"]
    assert peak_rss_kib() - before_kib < 24 * 1024  # client and server together
    assert list((stack.settings.data_dir / "uploads").iterdir()) == []


def peak_rss_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
