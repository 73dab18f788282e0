"""A server that answers by a script, inside the test's process; the calls made are kept."""

import json
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import BytesParser
from typing import Any

import httpx2
import pyarrow as pa

from penstock.api.client import Client
from penstock.api.open_inputs import open_upload
from penstock.api.payloads import StreamedUpload

Handler = Callable[[httpx2.Request], httpx2.Response]


def job_json(status: str = "running", **changes: Any) -> dict[str, Any]:
    counts = {"total": 4, "pending": 1, "running": 1, "succeeded": 2, "failed": 0, "rejected": 0}
    return {
        "id": "job_1",
        "object": "job",
        "name": None,
        "status": status,
        "model": "m",
        "priority": 0,
        "created_at": 1_700_000_000,
        "started_at": 1_700_000_001,
        "finished_at": None,
        "counts": counts,
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "cached_tokens": 5},
        "rate": {"rows_per_s": 1.5, "tokens_per_s": 300.0},
        "eta_s": 12.0,
        "output": {"path": "/nowhere/job_1"},
        "error": None,
        "metadata": {"team": "x"},
        "a_field_of_a_newer_server": 1,
        **changes,
    }


def refusal(status: int, headers: dict[str, str] | None = None, **error: Any) -> httpx2.Response:
    body = {"error": {"message": "no", "type": "t", "param": None, "code": None, **error}}
    return httpx2.Response(status, json=body, headers={"x-request-id": "req_9", **(headers or {})})


def connect(handler: Handler, **options: Any) -> Client:
    return Client("http://test", transport=httpx2.MockTransport(handler), **options)


def script(*answers: httpx2.Response | Exception) -> tuple[Handler, list[httpx2.Request]]:
    """Answer calls in this order; the calls made are kept."""
    left, calls = list(answers), []

    def handler(request: httpx2.Request) -> httpx2.Response:
        request.read()
        calls.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler, calls


def parts_of(request: httpx2.Request) -> dict[str, Message]:
    """Take a multipart body apart."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parsed = BytesParser().parsebytes(head + request.read())
    parts = parsed.get_payload()
    assert isinstance(parts, list)
    return {
        str(part.get_param("name", header="content-disposition")): part
        for part in parts
        if isinstance(part, Message)
    }


def payload(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def sent_file(rows: Any) -> bytes:
    """The file that a client sends for these rows."""
    with open_upload(rows) as upload:
        assert isinstance(upload, StreamedUpload)
        upload.rewind()
        return b"".join(upload.pieces())


def page(*rows: dict[str, Any], after: str | None, incomplete: bool = False) -> httpx2.Response:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    headers = {"x-incomplete": "true" if incomplete else "false"}
    return httpx2.Response(
        200, text=text, headers=headers | ({"x-next-cursor": after} if after else {})
    )


def table_page(table: pa.Table, *, after: str | None, incomplete: bool = False) -> httpx2.Response:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    headers = {"x-incomplete": "true" if incomplete else "false"}
    return httpx2.Response(
        200,
        content=sink.getvalue().to_pybytes(),
        headers=headers | ({"x-next-cursor": after} if after else {}),
    )


class StreamedBody(httpx2.SyncByteStream):
    """A streamed body that remembers whether it was closed."""

    def __init__(self, *frames: str | Exception) -> None:
        self.frames = frames
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for frame in self.frames:
            if isinstance(frame, Exception):
                raise frame
            yield f"data: {frame}\n\n".encode()

    def close(self) -> None:
        self.is_closed = True


def chunk(text: str, finish: str | None = None, **more: Any) -> str:
    choice = {"delta": {"content": text}, "finish_reason": finish, **more}
    return json.dumps({"choices": [choice]})


def streaming(body: StreamedBody) -> Handler:
    headers = {"content-type": "text/event-stream"}
    return lambda request: httpx2.Response(200, stream=body, headers=headers)
