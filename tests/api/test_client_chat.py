"""The client's chats, its address, and that its asynchronous twin says the same."""

import inspect
import json
from typing import Any

import httpx2
import pyarrow as pa
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import InvalidInput, PenstockError, ServerUnreachable, StreamFailed
from penstock.api.connection import AsyncConnection, Connection

from .scripted import StreamedBody, chunk, connect, job_json, page, script, streaming, table_page


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Write pauses down instead of making them."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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

    def test_several_answers(self) -> None:
        choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in ("a", None)]
        handler, _ = script(httpx2.Response(200, json={"choices": choices}))
        said = connect(handler).chat("hi", model="m", n=2)
        assert (said.text, said.texts) == ("a", ("a", ""))

    def test_several_answers_piece_by_piece(self) -> None:
        body = StreamedBody(chunk("he"), chunk("ho", index=1), chunk("llo"), "[DONE]")
        stream = connect(streaming(body)).chat("hi", model="m", n=2, stream=True)
        assert [(delta.index, delta.text) for delta in stream] == [(0, "he"), (1, "ho"), (0, "llo")]
        body = StreamedBody(chunk("he"), chunk("ho", index=1), chunk("llo"), "[DONE]")
        assert connect(streaming(body)).chat("hi", model="m", n=2, stream=True).text() == "hello"

    @pytest.mark.parametrize(
        ("asked", "says"),
        [
            (None, "ask with a text or a list of messages, got NoneType"),
            (b"hi", "got bytes"),
            ({"role": "user"}, "got dict"),
            (["hi"], r"message 1 must be a dict, as in \{'role': 'user', .*, got str"),
        ],
    )
    def test_what_is_no_question(self, asked: Any, says: str) -> None:
        handler, calls = script()
        with pytest.raises(InvalidInput, match=says):
            connect(handler).chat(asked)
        assert calls == []

    def test_must_know_the_model_when_there_are_several(self) -> None:
        handler, _ = script(httpx2.Response(200, json={"data": [{"id": "a"}, {"id": "b"}]}))
        with pytest.raises(PenstockError, match="served now: a, b"):
            connect(handler).chat("hi")

    def test_streamed(self) -> None:
        body = StreamedBody(
            chunk("he"), chunk("llo", "stop"), '{"choices": [], "usage": {}}', "[DONE]"
        )
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
        body = StreamedBody(chunk("he"), *frames)
        stream = connect(streaming(body)).chat("hi", model="m", stream=True)
        with pytest.raises(error, match=says):
            stream.text()
        assert body.is_closed

    def test_leaving_early_closes(self) -> None:
        body = StreamedBody(chunk("he"), chunk("llo"), "[DONE]")
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
    def test_have_the_same_verbs(self) -> None:
        """What is written by hand; see `test_twins` for the rest."""
        here, there = Connection, AsyncConnection
        verbs = {verb for verb in vars(here) if not verb.startswith("_")}
        assert verbs == {"run", "close"}, "a client has them, too"
        assert verbs == {verb for verb in vars(there) if not verb.startswith("_")}
        for verb in verbs:
            assert list(inspect.signature(getattr(here, verb)).parameters) == list(
                inspect.signature(getattr(there, verb)).parameters
            ), verb

    @pytest.mark.anyio
    async def test_say_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("penstock.api.retry_policy.random.uniform", lambda low, high: 0.0)
        monkeypatch.setattr("penstock.api.patient_wait.PAUSE_S", 0.0)
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

    @pytest.mark.anyio
    async def test_follow_and_collect_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("penstock.api.client_events._REOPEN_S", 0.0)
        sse = {"content-type": "text/event-stream"}
        first = "id: 1-0\nevent: job.progress\n\nid: 9-9\nevent: error\n\n"
        second = "id: 2-0\nevent: done\n\nid: 3-0\nevent: job.progress\n\n"
        handler, calls = script(
            httpx2.Response(200, json=job_json()),
            httpx2.Response(200, text=first, headers=sse),
            httpx2.Response(200, text=second, headers=sse),
            table_page(pa.table({"row_index": [0]}), after="c1"),
            table_page(pa.table({"row_index": [1]}), after=None),
            httpx2.Response(202, json={**job_json("queued"), "id": "job_2"}),
        )
        transport = httpx2.MockTransport(handler)
        async with AsyncClient("http://test", transport=transport) as client:
            job = await client.jobs.get("job_1")
            assert [event.id async for event in job.events()] == ["1-0", "2-0"]
            assert calls[2].headers["last-event-id"] == "1-0"
            assert (await job.to_arrow()).column("row_index").to_pylist() == [0, 1]
            assert (await job.retry()).id == "job_2"
