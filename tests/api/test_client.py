"""The client against the REST contract, through an in-process transport: no server, no clock."""

import inspect
import json
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx2
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api import async_client, client as sync_client
from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import (
    BadRequest,
    Conflict,
    InvalidInput,
    JobFailed,
    MissingPackage,
    NotFound,
    PenstockError,
    ServerUnreachable,
    StreamFailed,
    Unavailable,
    WaitTimedOut,
)

Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Write pauses down instead of making them."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


class TestSubmit:
    def test_sends_what_was_said_and_the_rows(self) -> None:
        handler, calls = script(
            httpx2.Response(
                202,
                json=job_json(
                    "queued", rejected={"count": 1, "errors": [{"line": 3, "message": "bad"}]}
                ),
            )
        )
        job = connect(handler).jobs.submit(
            [{"id": "a", "text": "é\u2028"}, {"id": "b", "text": "y"}],
            model="m",
            prompt="{{ row.text }}",
            sampling={"max_tokens": 3},
            id="id",
            output="~/out",
        )
        parts = parts_of(calls[0])
        assert json.loads(payload(parts["request"])) == {
            "model": "m",
            "prompt": "{{ row.text }}",
            "sampling": {"max_tokens": 3},
            "id": "id",
            "output": {"path": "~/out"},  # the server's home
        }
        assert parts["file"].get_filename() == "rows.jsonl"
        lines = payload(parts["file"]).split(b"\n")
        assert [json.loads(line) for line in lines if line] == [
            {"id": "a", "text": "é\u2028"},
            {"id": "b", "text": "y"},
        ]
        assert (job.id, job.status, job.counts.succeeded) == ("job_1", "queued", 2)
        assert [(line.line, line.message) for line in job.rejected] == [(3, "bad")]

    def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_all_rows(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "in.csv"
        file.write_text("id,text\n1,x\n")
        handler, calls = script(
            httpx2.ReadError("cut"), refusal(503), httpx2.Response(202, json=job_json())
        )
        connect(handler).jobs.submit(file, prompt="p")
        assert len({call.headers["idempotency-key"] for call in calls}) == 1
        for call in calls:
            part = parts_of(call)["file"]
            assert (part.get_filename(), payload(part)) == ("in.csv", b"id,text\n1,x\n")

    def test_rows_in_an_object_store_are_named_and_not_sent(self) -> None:
        sent: list[httpx2.Request] = []

        def handler(request: httpx2.Request) -> httpx2.Response:
            sent.append(request)
            return httpx2.Response(202, json=job_json("queued"))

        with connect(handler) as client:
            client.jobs.submit("s3://bucket/rows.parquet", model="m", output="s3://bucket/out")
        assert sent[0].headers["content-type"] == "application/json"
        assert json.loads(sent[0].content) == {
            "model": "m",
            "input": {"path": "s3://bucket/rows.parquet"},
            "output": {"path": "s3://bucket/out"},
        }

    def test_two_submits_have_two_keys_unless_one_is_given(self) -> None:
        handler, calls = script(*(httpx2.Response(202, json=job_json()) for _ in range(4)))
        with connect(handler) as client:
            for key in (None, None, "k", "k"):
                client.jobs.submit([{"a": 1}], prompt="p", idempotency_key=key)
        keys = [call.headers["idempotency-key"] for call in calls]
        assert keys[0] != keys[1]
        assert keys[2:] == ["k", "k"]

    def test_takes_data_frames_as_parquet(self) -> None:
        handler, calls = script(httpx2.Response(202, json=job_json()))
        frame = pandas.DataFrame({"id": [1, 2], "text": ["x", None]})
        connect(handler).jobs.submit(frame, prompt="p")
        part = parts_of(calls[0])["file"]
        assert part.get_filename() == "rows.parquet"
        table = pq.read_table(pa.BufferReader(payload(part)))
        assert table.to_pydict() == {"id": [1, 2], "text": ["x", None]}

    @pytest.mark.parametrize(
        ("rows", "says"),
        [
            ([], "no rows"),
            ([{"x": 1}, {"x": float("nan")}], "row 2"),
            ([{"x": object()}], "row 1"),
            (["text"], "row 1 must be a mapping, got str"),
            ("missing.jsonl", r"cannot read missing\.jsonl: No such file"),
        ],
    )
    def test_names_the_row_that_cannot_be_sent(self, rows: Any, says: str) -> None:
        handler, calls = script()
        with pytest.raises(InvalidInput, match=says):
            connect(handler).jobs.submit(rows, prompt="p")
        assert calls == []

    def test_refuses_an_option_nobody_knows(self) -> None:
        handler, _ = script()
        with pytest.raises(TypeError, match="promt"):
            connect(handler).jobs.submit([{"a": 1}], promt="x")  # pyright: ignore


class TestRetries:
    def test_honours_retry_after(self, no_sleep: list[float]) -> None:
        handler, _ = script(
            refusal(429, {"retry-after": "3"}),
            refusal(503, {"retry-after-ms": "1500"}),
            httpx2.Response(200, json=job_json()),
        )
        assert connect(handler).jobs.get("job_1").id == "job_1"
        assert no_sleep == [0, 3.0, 1.5]

    def test_x_should_retry_outranks_the_status(self) -> None:
        handler, calls = script(refusal(503, {"x-should-retry": "false"}))
        with pytest.raises(Unavailable):
            connect(handler).jobs.get("job_1")
        assert len(calls) == 1
        handler, calls = script(
            refusal(409, {"x-should-retry": "true"}), httpx2.Response(200, json=job_json())
        )
        connect(handler).jobs.cancel("job_1")
        assert len(calls) == 2

    def test_gives_up_with_the_last_refusal(self) -> None:
        handler, calls = script(*(refusal(500) for _ in range(3)))
        with pytest.raises(PenstockError):
            connect(handler, max_retries=2).jobs.get("job_1")
        assert len(calls) == 3

    def test_back_off_grows_and_is_bounded(self, no_sleep: list[float]) -> None:
        handler, _ = script(*(httpx2.ConnectError("refused") for _ in range(9)))
        with pytest.raises(ServerUnreachable, match=r"http://test: refused"):
            connect(handler, max_retries=8).jobs.get("job_1")
        assert len(no_sleep) == 9
        assert all(0 <= pause <= 8 for pause in no_sleep)

    def test_a_server_that_asks_for_an_hour_is_a_no(self, no_sleep: list[float]) -> None:
        handler, _ = script(refusal(503, {"retry-after": "3600"}))
        with pytest.raises(Unavailable):
            connect(handler).jobs.get("job_1")
        assert no_sleep == [0]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, BadRequest), (404, NotFound), (409, Conflict), (418, PenstockError)]
)
def test_every_status_has_its_class(status: int, kind: type[Exception]) -> None:
    handler, _ = script(refusal(status, message="no such thing", code="c", param="p"))
    with pytest.raises(kind, match=rf"no such thing \(HTTP {status}, request req_9\)") as caught:
        connect(handler).jobs.get("job_1")
    assert (getattr(caught.value, "code", None), getattr(caught.value, "param", None)) == ("c", "p")


def test_a_proxy_page_becomes_the_message() -> None:
    handler, _ = script(httpx2.Response(404, text="<html>nginx</html>"))
    with pytest.raises(NotFound, match="nginx"):
        connect(handler).jobs.get("job_1")


class TestWaiting:
    def test_to_the_end_through_a_server_that_is_away_for_a_while(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json()),
            httpx2.Response(200, json=job_json()),
            *(httpx2.ConnectError("refused") for _ in range(5)),
            httpx2.Response(200, json=job_json("completed")),
        )
        client = connect(handler)
        assert client.jobs.get("job_1").wait().status == "completed"
        assert "wait" not in calls[1].url.params  # the first look is at once
        assert float(calls[-1].url.params["wait"]) == 10

    def test_a_failed_job_raises(self) -> None:
        failed = job_json("failed", error={"message": "the model is gone"})
        handler, _ = script(
            httpx2.Response(200, json=job_json()), httpx2.Response(200, json=failed)
        )
        with pytest.raises(JobFailed, match="the model is gone"):
            connect(handler).jobs.get("job_1").wait()

    def test_in_vain(self) -> None:
        handler, _ = script(*(httpx2.Response(200, json=job_json()) for _ in range(3)))
        with pytest.raises(WaitTimedOut, match="after 0 s"):
            connect(handler).jobs.get("job_1").wait(timeout_s=0)

    def test_progress_goes_to_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        handler, _ = script(
            *(httpx2.Response(200, json=job_json(s)) for s in ("running", "completed"))
        )
        connect(handler).jobs.get("job_1").wait(progress=True)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "job_1 completed 2/4 rows" in printed.err


def page(*rows: dict[str, Any], after: str | None, incomplete: bool = False) -> httpx2.Response:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    headers = {"x-incomplete": "true" if incomplete else "false"}
    return httpx2.Response(
        200, text=text, headers=headers | ({"x-next-cursor": after} if after else {})
    )


class TestResults:
    def test_page_by_page(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json("completed")),
            page({"row_index": 0, "status": "succeeded", "output": "a\u2028b"}, after="c1"),
            page({"row_index": 1, "status": "failed", "error": {"code": "x"}}, after=None),
        )
        rows = list(connect(handler).jobs.get("job_1").results(page_rows=1))
        assert [row.ok for row in rows] == [True, False]
        assert rows[0].output == "a\u2028b"
        assert rows[1].error == {"code": "x"}
        assert [call.url.params.get("after") for call in calls[1:]] == [None, "c1"]

    def test_follow_waits_for_rows_that_have_not_landed(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json()),
            page({"row_index": 0}, after="c1", incomplete=True),
            page(after="c1", incomplete=True),
            httpx2.Response(200, json=job_json()),
            page({"row_index": 1}, after=None),
        )
        rows = list(connect(handler).jobs.get("job_1").results())
        assert [row["row_index"] for row in rows] == [0, 1]
        assert calls[-1].url.params["after"] == "c1"

    def test_follow_ends_when_a_job_ended_early(self) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json()),
            page({"row_index": 0}, after="c1", incomplete=True),
            page(after="c2", incomplete=True),
            page(after="c2", incomplete=True),
            httpx2.Response(200, json=job_json("cancelled")),
            page({"row_index": 1}, after=None),
        )
        rows = list(connect(handler).jobs.get("job_1").results())
        assert [row["row_index"] for row in rows] == [0, 1]
        assert calls[-1].url.params["after"] == "c2"

    def test_without_follow_it_ends_at_once(self) -> None:
        empty = page(after="c0", incomplete=True)
        handler, _ = script(httpx2.Response(200, json=job_json()), empty, empty)
        assert list(connect(handler).jobs.get("job_1").results(follow=False)) == []

    @pytest.mark.parametrize("follow", [True, False])
    def test_an_empty_page_that_leads_on_is_not_the_end(self, follow: bool) -> None:
        handler, calls = script(
            httpx2.Response(200, json=job_json("completed")),
            page(after="c1"),
            page({"row_index": 9, "status": "failed"}, after=None),
        )
        rows = connect(handler).jobs.get("job_1").results(status="failed", follow=follow)
        assert [row["row_index"] for row in rows] == [9]
        assert calls[-1].url.params["after"] == "c1"

    def test_data_frames_over_the_wire_and_from_disk(self, tmp_path: Path) -> None:
        done = httpx2.Response(200, json=job_json("completed"))
        handler, _ = script(done, page({"row_index": 0, "output": "a"}, after=None))
        frame = connect(handler).jobs.get("job_1").to_pandas()
        assert frame.to_dict("records") == [{"row_index": 0, "output": "a"}]

        (tmp_path / "rows").mkdir()
        for index in (1, 0):
            table = pa.table({"row_index": [index]})
            pq.write_table(table, tmp_path / "rows" / f"part-{index:06}.parquet")
        (tmp_path / "_SUCCESS").touch()
        local = job_json("completed", output={"path": str(tmp_path)})
        handler, calls = script(httpx2.Response(200, json=local))
        table = connect(handler).jobs.get("job_1").to_arrow()
        assert table.column("row_index").to_pylist() == [0, 1]
        assert len(calls) == 1

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "polars", None)
        handler, _ = script(
            httpx2.Response(200, json=job_json("completed")), page({"a": 1}, after=None)
        )
        with pytest.raises(MissingPackage, match="to_polars needs polars: pip install polars"):
            connect(handler).jobs.get("job_1").to_polars()


def test_events_go_on_where_the_connection_broke() -> None:
    sse = {"content-type": "text/event-stream"}
    first = 'id: 1-0\nevent: job.progress\ndata: {"done": 1}\n\n: ping\n\n'
    second = 'id: 2-0\nevent: done\ndata: {"status": "completed"}\n\n'
    handler, calls = script(
        httpx2.Response(200, json=job_json()),
        httpx2.Response(200, text=first, headers=sse),
        httpx2.Response(200, text=second, headers=sse),
    )
    events = list(connect(handler).jobs.get("job_1").events())
    assert [(event.id, event.kind) for event in events] == [
        ("1-0", "job.progress"),
        ("2-0", "done"),
    ]
    assert calls[1].headers.get("last-event-id") is None
    assert calls[2].headers["last-event-id"] == "1-0"


class _Body(httpx2.SyncByteStream):
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


def chunk(text: str, finish: str | None = None) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


def streaming(body: _Body) -> Handler:
    headers = {"content-type": "text/event-stream"}
    return lambda request: httpx2.Response(200, stream=body, headers=headers)


class TestChat:
    def test_whole(self) -> None:
        answer = {
            "model": "m",
            "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        }
        handler, calls = script(
            httpx2.Response(200, json={"data": [{"id": "m"}]}), httpx2.Response(200, json=answer)
        )
        said = connect(handler).chat("hi", temperature=0)
        assert (said.text, said.finish_reason, said.usage.completion_tokens) == ("hello", "stop", 1)
        assert json.loads(calls[1].content) == {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0,
        }
        assert calls[1].headers["idempotency-key"]

    def test_must_know_the_model_when_there_are_several(self) -> None:
        handler, _ = script(httpx2.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}))
        with pytest.raises(PenstockError, match="served now: a, b"):
            connect(handler).chat("hi")

    def test_streamed(self) -> None:
        body = _Body(chunk("he"), chunk("llo", "stop"), '{"choices": [], "usage": {}}', "[DONE]")
        stream = connect(streaming(body)).chat("hi", model="m", stream=True)
        assert [delta.text for delta in stream] == ["he", "llo", ""]
        assert body.is_closed

    @pytest.mark.parametrize(
        ("frames", "error", "says"),
        [
            (('{"error": {"message": "engine died", "code": "e"}}',), StreamFailed, "engine died"),
            ((), StreamFailed, "ended before"),
            ((httpx2.ReadError("reset"),), ServerUnreachable, "cut off: reset"),
        ],
    )
    def test_a_broken_stream_says_so_and_is_closed(
        self, frames: tuple[Any, ...], error: type[Exception], says: str
    ) -> None:
        body = _Body(chunk("he"), *frames)
        stream = connect(streaming(body)).chat("hi", model="m", stream=True)
        with pytest.raises(error, match=says):
            stream.text()
        assert body.is_closed

    def test_leaving_early_closes(self) -> None:
        body = _Body(chunk("he"), chunk("llo"), "[DONE]")
        with connect(streaming(body)).chat("hi", model="m", stream=True) as stream:
            assert next(iter(stream)).text == "he"
        assert body.is_closed


class TestAddress:
    def test_flag_over_environment_over_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PENSTOCK_URL", raising=False)
        monkeypatch.delenv("PENSTOCK_API_KEY", raising=False)
        with Client() as client:
            assert client.address.base_url == "http://127.0.0.1:8100"
        monkeypatch.setenv("PENSTOCK_URL", "https://queue.example/penstock/")
        monkeypatch.setenv("PENSTOCK_API_KEY", "secret")
        handler, calls = script(httpx2.Response(200, json={"data": []}))
        with Client(transport=httpx2.MockTransport(handler)) as client:
            client.models.list()
        assert str(calls[0].url) == "https://queue.example/penstock/v1/models"
        assert calls[0].headers["authorization"] == "Bearer secret"

    def test_must_be_a_url(self) -> None:
        with pytest.raises(PenstockError, match="'localhost:8100'"):
            Client("localhost:8100")


class TestTwins:
    @pytest.mark.parametrize(
        ("name", "twin"),
        [
            ("Client", "AsyncClient"),
            ("Jobs", "AsyncJobs"),
            ("Job", "AsyncJob"),
            ("Models", "AsyncModels"),
            ("Workers", "AsyncWorkers"),
            ("ChatStream", "AsyncChatStream"),
        ],
    )
    def test_have_the_same_verbs(self, name: str, twin: str) -> None:
        here, there = getattr(sync_client, name), getattr(async_client, twin)
        verbs = {verb for verb in vars(here) if not verb.startswith("_")}
        assert verbs == {verb for verb in vars(there) if not verb.startswith("_")}
        for verb in verbs:
            assert list(inspect.signature(getattr(here, verb)).parameters) == list(
                inspect.signature(getattr(there, verb)).parameters
            ), verb

    @pytest.mark.anyio
    async def test_say_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("penstock.api.retry_policy.random.uniform", lambda low, high: 0.0)
        monkeypatch.setattr("penstock.api.job_calls._PAUSE_S", 0.0)
        handler, calls = script(
            httpx2.ConnectError("refused"),
            httpx2.Response(202, json=job_json("queued")),
            httpx2.Response(200, json=job_json("completed")),
            page({"row_index": 0}, after="c1"),
            page({"row_index": 1}, after=None),
            httpx2.Response(200, json={"data": [{"row_index": 7}]}),
            httpx2.Response(200, json={"data": [job_json("completed")]}),
        )
        transport = httpx2.MockTransport(handler)
        async with AsyncClient("http://test", transport=transport) as client:
            job = await client.jobs.submit([{"a": 1}], prompt="p")
            await job.wait()
            assert [row["row_index"] async for row in job.results()] == [0, 1]
            assert await job.errors() == [{"row_index": 7}]
            assert [found.id for found in await client.jobs.list(limit=1)] == ["job_1"]
        assert calls[0].headers["idempotency-key"] == calls[1].headers["idempotency-key"]

    @pytest.mark.anyio
    async def test_stream_the_same(self) -> None:
        text = f"data: {chunk('he')}\n\ndata: {chunk('llo', 'stop')}\n\ndata: [DONE]\n\n"
        handler, _ = script(
            httpx2.Response(200, text=text, headers={"content-type": "text/event-stream"})
        )
        transport = httpx2.MockTransport(handler)
        async with (
            AsyncClient("http://test", transport=transport) as client,
            await client.chat("hi", model="m", stream=True) as stream,
        ):
            assert await stream.text() == "hello"
