"""Jobs asked for over plain HTTP, waited for and read: what the tests of the routes share."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2

from .conftest import MODEL

TASK = {"model": MODEL, "prompt": "Say {{ row.text }}"}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"key": f"k{index}", "text": f"t{index}"} for index in range(count)]


def jsonl(items: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def submit(http: httpx2.Client, **body: Any) -> dict[str, Any]:
    answer = http.post("/v1/jobs", json={**TASK, **body})
    assert answer.status_code == 202, answer.text
    return answer.json()


def wait(http: httpx2.Client, job_id: str, within_s: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while True:
        job = http.get(f"/v1/jobs/{job_id}", params={"wait": 5}).json()
        if job["finished_at"] is not None:
            return job
        assert time.monotonic() < deadline, job


def three_shards(http: httpx2.Client) -> dict[str, Any]:
    """A job of 150 rows that has ended."""
    job = submit(
        http, input={"rows": rows(150)}, id="key", name="three shards", metadata={"team": "a"}
    )
    return wait(http, job["id"])


def results(http: httpx2.Client, job_id: str, **params: Any) -> list[dict[str, Any]]:
    answer = http.get(f"/v1/jobs/{job_id}/results", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.content.splitlines()]


def events(answer: httpx2.Response) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """(id, kind, data) of every frame."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id"), fields["event"], json.loads(fields["data"])
            fields = {}
