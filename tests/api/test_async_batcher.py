"""Requests of many coroutines become bulk jobs, on a real server."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import JobFailed, PenstockError, RowFailed
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, MODEL, Stack
from .scripted import job_json, page

SOON_S = 60.0  # nothing here takes so long, and nothing waits for it

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sdk(stack: Stack, anyio_backend: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(stack.url) as client:
        yield client


async def jobs_named(client: AsyncClient, name: str) -> list[Any]:
    return [job for job in await client.jobs.list(limit=100) if job.name == name]


async def made(stack: Stack, name: str) -> None:
    """Wait until there is a job of this name."""

    def find() -> bool:
        with Client(stack.url) as client:
            return any(job.name == name for job in client.jobs.list(limit=100))

    await asyncio.to_thread(wait_for, find, "the job")


async def test_coroutines_at_once_are_one_job(sdk: AsyncClient) -> None:
    async with sdk.batcher(model=MODEL, name="coroutines", max_wait_s=0.05) as batch:
        answers = await asyncio.gather(
            *(batch.chat(f"question {n}", max_tokens=1 + n % 3) for n in range(90))
        )
    assert [answer.usage.completion_tokens for answer in answers] == [1 + n % 3 for n in range(90)]
    [job] = await jobs_named(sdk, "coroutines")
    assert job.counts.succeeded == 90


async def test_more_coroutines_than_fit_at_once_all_get_theirs(sdk: AsyncClient) -> None:
    limits: dict[str, Any] = {"max_rows": 4, "max_jobs": 1, "max_wait_s": math.inf}
    async with sdk.batcher(model=MODEL, name="many", **limits) as batch:
        asks = [asyncio.ensure_future(batch.chat("x", max_tokens=1)) for _ in range(16)]
        await asyncio.sleep(0)
        assert batch.num_waiting <= 8
        assert len(await asyncio.wait_for(asyncio.gather(*asks), SOON_S)) == 16
    assert [job.counts.total for job in await jobs_named(sdk, "many")] == [4] * 4


async def test_the_end_of_the_block_sends_and_waits(sdk: AsyncClient) -> None:
    async with sdk.batcher(model=MODEL, max_wait_s=SOON_S) as batch:
        ask = asyncio.ensure_future(batch.chat("x", max_tokens=1))
        await asyncio.sleep(0)
        assert batch.num_waiting == 1
    assert (await ask).text
    with pytest.raises(PenstockError, match="closed"):
        await batch.chat("x")


async def test_one_request_fails_alone(sdk: AsyncClient) -> None:
    async with sdk.batcher(model=MODEL, max_wait_s=0.05) as batch:
        good, bad = await asyncio.gather(
            batch.chat("x", max_tokens=1), batch.chat("x", temperature=-1), return_exceptions=True
        )
    assert not isinstance(good, BaseException)
    assert good.text
    assert isinstance(bad, RowFailed)


async def test_a_coroutine_that_is_cancelled_in_time_is_never_sent(sdk: AsyncClient) -> None:
    async with sdk.batcher(model=MODEL, name="in time", max_wait_s=SOON_S) as batch:
        keep, drop = (asyncio.ensure_future(batch.chat("x", max_tokens=1)) for _ in range(2))
        await asyncio.sleep(0)
        drop.cancel()
        batch.flush()
        assert (await keep).text
    [job] = await jobs_named(sdk, "in time")
    assert job.counts.total == 1


async def test_a_job_that_nobody_waits_for_is_cancelled(sdk: AsyncClient, stack: Stack) -> None:
    async with sdk.batcher(model=IDLE_MODEL, name="unwanted", max_wait_s=0) as batch:
        asks = [asyncio.ensure_future(batch.chat("x")) for _ in range(2)]
        await made(stack, "unwanted")
        asks[0].cancel()
        await asyncio.wait([asks[0]])
        [job] = await jobs_named(sdk, "unwanted")
        assert job.status != "cancelled"
        asks[1].cancel()
    [job] = await jobs_named(sdk, "unwanted")
    assert job.status == "cancelled"


class HalfAnswered:
    """A server with a job of two rows: the first lands when it may, the second never does."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self.is_asked = asyncio.Event()
        self.may_land = asyncio.Event()
        self._has_landed = False
        self._num_looks = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.is_asked.set()
        if path.endswith("/cancel"):
            self.is_cancelled = True
        if not path.endswith("/results"):
            status = "cancelled" if self.is_cancelled else "running"
            return httpx2.Response(200, json=job_json(status))
        self._num_looks += 1
        has_ended = self.is_cancelled or self._num_looks > 30  # at last, so that a test ends
        if self._has_landed or not self.may_land.is_set():
            return page(after=None if has_ended else "c", incomplete=not has_ended)
        self._has_landed = True
        row = {"status": "succeeded", "output": "yes", "row_index": 0, "custom_id": "0"}
        return page(row, after="d", incomplete=True)


@pytest.mark.parametrize("answer_is", ["first", "last"])
async def test_a_job_is_cancelled_when_what_it_has_left_is_given_up(answer_is: str) -> None:
    server = HalfAnswered()
    transport = httpx2.MockTransport(server)
    async with (
        AsyncClient("http://test", transport=transport) as client,
        client.batcher(model="m", max_wait_s=0) as batch,
    ):
        asks = [asyncio.ensure_future(batch.chat("x")) for _ in range(2)]
        if answer_is == "first":
            server.may_land.set()
            await asks[0]
        else:
            await server.is_asked.wait()
        assert not server.is_cancelled
        asks[1].cancel()
        await asyncio.wait([asks[1]])
        server.may_land.set()
        assert (await asks[0]).text == "yes"
    assert server.is_cancelled


async def test_an_exception_in_the_block_cancels_what_has_no_answer(
    sdk: AsyncClient, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.api.async_batcher._LEAVING_S", SOON_S)
    asks: list[asyncio.Task[Any]] = []
    with pytest.raises(ZeroDivisionError):
        async with sdk.batcher(model=IDLE_MODEL, name="left async", max_wait_s=0) as batch:
            asks.append(asyncio.ensure_future(batch.chat("x")))
            await made(stack, "left async")
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        await asks[0]
    [job] = await jobs_named(sdk, "left async")
    assert job.status == "cancelled"


async def test_a_job_cancelled_by_others_tells_so(sdk: AsyncClient, stack: Stack) -> None:
    async with sdk.batcher(model=IDLE_MODEL, name="steered async", max_wait_s=0) as batch:
        ask = asyncio.ensure_future(batch.chat("x"))
        await made(stack, "steered async")
        [job] = await jobs_named(sdk, "steered async")
        await job.cancel()
        with pytest.raises(JobFailed, match="is cancelled"):
            await ask


async def test_belongs_to_one_loop(sdk: AsyncClient) -> None:
    async with sdk.batcher(model=MODEL) as batch:

        def elsewhere() -> None:
            with pytest.raises(PenstockError, match="another event loop"):
                asyncio.run(batch.chat("x"))

        await asyncio.to_thread(elsewhere)


async def test_looks_like_openais_client(sdk: AsyncClient) -> None:
    from openai.types.chat import ChatCompletion

    async with sdk.batcher(max_wait_s=0.05) as batch:
        messages = [{"role": "user", "content": "x"}]
        answers = await asyncio.gather(
            *(
                batch.chat.completions.create(model=MODEL, messages=messages, max_tokens=2)
                for _ in range(3)
            )
        )
    assert all(isinstance(answer, ChatCompletion) for answer in answers)


async def test_a_fault_that_nobody_foresaw_reaches_who_waits() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise RuntimeError("no")

    broken = httpx2.MockTransport(handler)
    async with (
        AsyncClient("http://test", transport=broken) as client,
        client.batcher(model="m", max_wait_s=0) as batch,
    ):
        with pytest.raises(PenstockError, match="could not be followed: RuntimeError: no"):
            await batch.chat("x")
