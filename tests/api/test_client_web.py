"""Rows behind a URL and on the hub: fetched as they are sent on, or said why not."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import datasets
import fsspec
import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api import foreign_bytes
from penstock.api.client import Client
from penstock.api.client_errors import InvalidInput
from penstock.api.workflow_inputs import count_of, sample_of

from .conftest import MODEL, Stack
from .scripted import connect, job_json, parts_of, payload, script, sent_file

TABLE = pa.table({"id": [1, 2, 3]})


class Files(BaseHTTPRequestHandler):
    """Files of a web server; some are less than they promise."""

    def do_GET(self) -> None:
        if self.path.startswith("/from/"):
            self._head(302, {"location": "/rows.csv?token=secret"})
        elif self.path.startswith("/resolve/"):
            kind = "named" if "named" in self.path else "4f2a"
            self._head(302, {"location": f"/store/{kind}"})
        elif self.path.startswith("/store/"):
            attached = "inline; filename*=UTF-8''..%2Fr%20ws.jsonl"
            named = {"content-disposition": attached} if self.path.endswith("named") else {}
            self._head(200, {"content-type": "binary/octet-stream", **named}, b"PAR1")
        elif self.path.startswith("/round/"):
            times = int(self.path.rpartition("/")[2])
            self._head(302, {"location": f"/round/{times + 1}" if times < 9 else "/page"})
        elif self.path == "/endless.csv":
            self._head(200, {"content-length": ""}, b"id,text\n1,x\n2,y\n")
        elif self.path.startswith("/rows.csv") or self.path == "/export":
            self._head(200, {"content-type": "text/csv"}, b"id,text\n1,x\n2,y\n")
        elif self.path == "/page":
            self._head(200, {"content-type": "text/html; charset=utf-8"}, b"<html>")
        elif self.path == "/cut.jsonl":
            self._head(200, {"content-length": "100000"}, b'{"a": 1}\n' * 9_000)
        else:
            self._head(404, {})

    def _head(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        assert "authorization" not in {name.lower() for name in self.headers}
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_url_is_fetched_and_sent_on(web: str, stack: Stack) -> None:
    for path, name in [("/from/elsewhere", "rows.csv"), ("/export", "export.csv")]:
        handler, calls = script(httpx2.Response(202, json=job_json()))
        connect(handler, api_key="ours").jobs.submit(web + path, prompt="p")
        part = parts_of(calls[0])["file"]
        assert (part.get_filename(), payload(part)) == (name, b"id,text\n1,x\n2,y\n")
    with Client(stack.url) as client:
        job = client.jobs.submit(f"{web}/rows.csv", model=MODEL, prompt="{{ row.text }}", id="id")
        job.wait(timeout_s=60)
        assert [row.custom_id for row in job.results()] == ["1", "2"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/resolve/rows.parquet?sig=1", "rows.parquet"),
        ("/resolve/main/named", "r ws.jsonl"),
        ("/resolve/rows.parquet?named", "r ws.jsonl"),
        ("/store/4f2a", "4f2a"),
    ],
)
def test_a_store_at_the_end_of_the_way_takes_no_name_away(web: str, path: str, name: str) -> None:
    handler, calls = script(httpx2.Response(202, json=job_json()))
    connect(handler).jobs.submit(web + path, prompt="p")
    assert parts_of(calls[0])["file"].get_filename() == name


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/nothing?key=secret", "/nothing: its status is 404"),
        ("/round/1", "[Rr]edirect"),
        ("/page", "page for people, not a file"),
        ("/cut.jsonl", r"broke off after [\d,]+ bytes"),
        ("/rows.csv", "more than 9 bytes"),
        ("/endless.csv", "more than 9 bytes"),
    ],
)
def test_a_url_that_cannot_be_read_says_why(
    web: str, path: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.endswith(".csv"):
        monkeypatch.setattr(foreign_bytes, "MAX_BYTES", 9)
    handler, calls = script(httpx2.Response(202, json=job_json()))
    with pytest.raises(InvalidInput, match=says) as caught:
        connect(handler).jobs.submit(web + path, prompt="p")
    assert "secret" not in str(caught.value)
    assert calls == []


def test_a_url_where_nobody_answers_is_not_our_server() -> None:
    handler, _ = script()
    with pytest.raises(InvalidInput, match=r"cannot read http://127\.0\.0\.1:9/rows\.csv"):
        connect(handler).jobs.submit("http://127.0.0.1:9/rows.csv", prompt="p")


@contextmanager
def a_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub in memory: what is tested is what we ask of it."""
    files = fsspec.filesystem("memory")
    files.pipe_file("/datasets/org/name/data/rows.jsonl", b'{"a": 1}\n')
    monkeypatch.setattr("huggingface_hub.HfFileSystem", lambda: files)
    splits = {"test": datasets.Dataset(TABLE), "dev": datasets.Dataset(TABLE.slice(0, 1))}
    asked: list[tuple[Any, ...]] = []

    def load(name: str, config: str | None, *, revision: str | None, streaming: bool) -> Any:
        asked.append((name, config, revision, streaming))
        return splits

    monkeypatch.setattr("datasets.load_dataset", load)
    yield
    assert asked in ([], [("org/name", "main", "v1", True)])
    files.rm("/datasets", recursive=True)


def test_the_hub_gives_files_and_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_hub(monkeypatch):
        assert sent_file("hf://datasets/org/name/data/rows.jsonl") == b'{"a": 1}\n'
    with a_hub(monkeypatch), pytest.raises(InvalidInput, match=r"nothing\.jsonl"):
        sent_file("hf://datasets/org/name/nothing.jsonl")
    with a_hub(monkeypatch):
        found = pq.read_table(
            pa.BufferReader(sent_file("hf://datasets/org/name@v1?split=dev&config=main"))
        )
        assert found.column("id").to_pylist() == [1]
    with a_hub(monkeypatch), pytest.raises(InvalidInput, match="there are 'test', 'dev'"):
        sent_file("hf://datasets/org/name@v1?config=main")
    with pytest.raises(InvalidInput, match="may say split and config, got 'spilt'"):
        sent_file("hf://datasets/org/name?spilt=dev")


class Breaks(io.BytesIO):
    """A file whose connection breaks behind its first piece."""

    size = 10

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.tell():
            return super().read(4)
        raise httpx2.RemoteProtocolError("the peer closed the connection")


@pytest.mark.parametrize(
    ("url", "max_bytes", "says"),
    [
        ("rows.jsonl?split=test", 99, "takes no options, got 'split=test'"),
        ("rows.jsonl#L2", 99, "takes no options, got 'L2'"),
        ("rows.jsonl", 9, "more than 9 bytes"),
        ("rows.jsonl", 99, r"broke off after 4 bytes \(the peer closed.*nothing was submitted"),
    ],
)
def test_a_file_of_the_hub_that_cannot_be_read_says_why(
    url: str, max_bytes: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = SimpleNamespace(open=lambda path, mode: Breaks(b"0123456789"))
    monkeypatch.setattr("huggingface_hub.HfFileSystem", lambda: hub)
    monkeypatch.setattr(foreign_bytes, "MAX_BYTES", max_bytes)
    with pytest.raises(InvalidInput, match=says):
        sent_file(f"hf://datasets/org/name/{url}")


def test_a_split_of_the_hub_that_breaks_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"id": 1}
        raise httpx2.ReadTimeout("timed out")

    split = datasets.IterableDataset.from_generator(rows)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: {"train": split})
    with pytest.raises(InvalidInput, match=r"name': it broke off after .*timed out.*try again"):
        sent_file("hf://datasets/org/name")


def test_a_trial_of_a_workflow_asks_for_rows_from_here(web: str) -> None:
    assert count_of(f"{web}/rows.csv") is None
    with pytest.raises(InvalidInput, match=r"cannot try 'http://.*rows\.csv': download it first"):
        sample_of(f"{web}/rows.csv")
