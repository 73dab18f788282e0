import asyncio
import os
import signal
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs import interactive
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.frames import Delta, InteractiveRequest
from penstock.jobs.interactive import InteractiveLane, NoWorker, QueueUnavailable
from penstock.jobs.messages import send_request
from penstock.jobs.model import JobState, new_job_id
from penstock.jobs.workers import WorkerInfo

from .live import MODEL, Live, live_queue, stop, wait_for


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A queue for one test, which may break everything."""
    with live_queue(tmp_path, lease_s=2.0, grace_s=0.2) as live:
        yield live


class OpenLane:
    """A lane that is open for a block."""

    def __init__(self, live: Live) -> None:
        self._lane = InteractiveLane(live.settings)

    async def __aenter__(self) -> InteractiveLane:
        await self._lane.open()
        return self._lane

    async def __aexit__(self, *_: object) -> None:
        await self._lane.close()


def request(prompt: str = "hello", *, model: str = MODEL, **sampling: Any) -> InteractiveRequest:
    sampling.setdefault("max_tokens", 100)
    return InteractiveRequest(new_job_id("chat"), model, prompt=prompt, sampling=sampling)


async def gather(stream: AsyncIterator[Delta]) -> list[Delta]:
    return [delta async for delta in stream]


def test_text_arrives_word_by_word(served: Live) -> None:
    async def run() -> list[Delta]:
        async with OpenLane(served) as lane:
            return await gather(lane.generate(request("hello")))

    deltas = asyncio.run(run())
    assert "".join(delta.text for delta in deltas) == expected_text("hello", num_tokens=8)
    assert len([delta for delta in deltas if delta.text]) == 8
    assert [delta.is_last for delta in deltas] == [False] * 7 + [True]
    last = deltas[-1]
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("stop", 5, 8)


def test_chats_and_samples(served: Live) -> None:
    async def run() -> tuple[list[Delta], list[Delta]]:
        chat = InteractiveRequest(
            new_job_id("chat"),
            MODEL,
            messages=({"role": "user", "content": "a chat"},),
            sampling={"max_tokens": 3},
        )
        async with OpenLane(served) as lane:
            return await asyncio.gather(
                gather(lane.generate(chat)), gather(lane.generate(request("hello", n=2)))
            )

    chat, samples = asyncio.run(run())
    assert "".join(delta.text for delta in chat) == expected_text("a chat", num_tokens=3)
    for index in range(2):
        text = "".join(delta.text for delta in samples if delta.sample_index == index)
        assert text == expected_text("hello", num_tokens=8, sample_index=index)
    assert [delta.is_last for delta in samples].count(True) == 1 and samples[-1].is_last


def test_a_request_that_cannot_run_says_why(served: Live) -> None:
    async def run() -> list[list[Delta]]:
        async with OpenLane(served) as lane:
            return [
                await gather(lane.generate(request("x" * 200_000))),
                await gather(lane.generate(request(temperature=-1.0))),
                await gather(lane.generate(request("[[fail]]"))),
            ]

    errors = [deltas[-1].error for deltas in asyncio.run(run())]
    assert [error.code for error in errors if error] == [
        "context_length_exceeded",
        "invalid_request",
        "engine_error",
    ]
    assert errors[1] is not None and errors[1].param == "temperature"


def test_requests_overtake_a_bulk_job(served: Live) -> None:
    """Also prints the time to the first token, idle and beside a job that fills every slot."""

    async def first_token_ms(lane: InteractiveLane) -> float:
        started = time.perf_counter()
        async with aclosing(lane.generate(request())) as stream:
            await anext(stream)
        return (time.perf_counter() - started) * 1000

    async def run() -> tuple[list[float], list[float]]:
        async with OpenLane(served) as lane:
            idle = [await first_token_ms(lane) for _ in range(10)]
            spec = served.submit([f"[[long]] {number}" for number in range(64)])

            def are_slots_full() -> bool:
                return any(info.running_rows >= 16 for info in served.register.list())

            await asyncio.to_thread(wait_for, are_slots_full, "full slots")
            busy = [await first_token_ms(lane) for _ in range(10)]
            assert served.snapshot(spec).shards_landed == 0  # the job really was in the way
            served.table.finish(spec.job_id, JobState.CANCELLED)
            return idle, busy

    idle, busy = asyncio.run(run())
    print(
        f"\nfirst token: idle {statistics.median(idle):.1f} ms, "
        f"beside a full job {statistics.median(busy):.1f} ms"
    )
    assert max(busy) < 60_000  # behind the job it would be minutes


def test_leaving_early_frees_the_engine(served: Live) -> None:
    async def run() -> None:
        async with OpenLane(served) as lane:
            async with aclosing(lane.generate(request("[[long]]"))) as stream:
                async for delta in stream:
                    if delta.completion_tokens > 3:
                        break

            def is_free() -> bool:
                return any(info.running_rows == 0 for info in served.register.list())

            await asyncio.to_thread(wait_for, is_free, "a free engine")

    asyncio.run(run())


def test_no_worker_and_no_redis_are_told_at_once(live: Live) -> None:
    async def refused(lane: InteractiveLane) -> BaseException:
        started = time.monotonic()
        with pytest.raises((NoWorker, QueueUnavailable)) as caught:
            await gather(lane.generate(request()))
        assert time.monotonic() - started < interactive.TAKEN_TIMEOUT_S
        return caught.value

    async def run() -> None:
        async with OpenLane(live) as lane:
            assert isinstance(await refused(lane), NoWorker)
            live.server.stop()
            await asyncio.sleep(0.6)  # the list of workers is remembered for half a second
            assert isinstance(await refused(lane), QueueUnavailable)

    asyncio.run(run())


def test_a_worker_that_takes_nothing_is_as_none(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "TAKEN_TIMEOUT_S", 0.0)
    now_ms = int(time.time() * 1000)
    frozen = WorkerInfo(
        name="frozen", model=MODEL, host="h", pid=1, slots=1, running_rows=0, waiting_rows=0,
        tokens_per_s=0.0, kv_used_fraction=0.0, started_at_ms=now_ms, proved_at_ms=now_ms,
        has_chat_template=True, max_model_len=None,
    )  # fmt: skip
    live.register.announce(frozen)

    async def run() -> None:
        async with OpenLane(live) as lane:
            with pytest.raises(NoWorker, match="no worker took the request"):
                await gather(lane.generate(request()))

    asyncio.run(run())


@pytest.mark.parametrize("victim", ["engine", "worker", "stopped"])
def test_a_stream_whose_worker_is_lost_ends_with_an_error(live: Live, victim: str) -> None:
    worker = live.start_worker()
    engine_pid = live.engine_pid(worker)
    lost_ms = 0.0

    async def run() -> list[Delta]:
        nonlocal lost_ms
        deltas = []
        async with OpenLane(live) as lane, aclosing(lane.generate(request("[[long]]"))) as stream:
            async for delta in stream:
                deltas.append(delta)
                if len(deltas) == 3:
                    if victim == "engine":
                        os.kill(engine_pid, signal.SIGKILL)
                        lost_ms = time.time() * 1000
                    elif victim == "worker":
                        worker.kill()
                    else:
                        await asyncio.to_thread(stop, worker)
        return deltas

    last = asyncio.run(run())[-1]
    assert last.is_last and last.error is not None
    assert (last.error.code, last.error.retryable) == ("worker_lost", True)
    if victim == "engine":
        wait_for(lambda: live.wait_until_serving(worker).proved_at_ms > lost_ms, "another engine")
        asyncio.run(_serves_again(live))


async def _serves_again(live: Live) -> None:
    async with OpenLane(live) as lane:
        assert (await gather(lane.generate(request())))[-1].finish_reason == "stop"


def test_a_cut_subscription_misses_no_word(served: Live) -> None:
    async def run() -> list[Delta]:
        deltas = []
        async with OpenLane(served) as lane, aclosing(lane.generate(request("[[long]]"))) as stream:
            async for delta in stream:
                deltas.append(delta)
                if len(deltas) in (20, 60):
                    served.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                if len(deltas) == 500:
                    break
        return deltas

    deltas = asyncio.run(run())
    assert [delta.completion_tokens for delta in deltas] == list(range(1, 501))


def test_a_burst_waits_its_turn_to_be_sent(served: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """All take longer to send than one may, but as long as some go out, nobody is refused."""

    def send_slowly(*arguments: Any) -> None:
        time.sleep(0.1)
        send_request(*arguments)

    monkeypatch.setattr(interactive, "send_request", send_slowly)
    monkeypatch.setattr(interactive, "PUBLISH_TIMEOUT_S", 2.5)

    async def run() -> list[list[Delta]]:
        async with OpenLane(served) as lane:
            asks = [lane.generate(request(f"burst {number}")) for number in range(28)]
            return await asyncio.gather(*map(gather, asks))

    assert all(deltas[-1].is_last and deltas[-1].error is None for deltas in asyncio.run(run()))


def test_a_publisher_that_stands_still_is_told(
    served: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()
    monkeypatch.setattr(interactive, "send_request", lambda *_: is_over.wait(60))
    monkeypatch.setattr(interactive, "PUBLISH_TIMEOUT_S", 0.2)

    async def run() -> None:
        async with OpenLane(served) as lane:
            asks = [lane.generate(request(f"stuck {number}")) for number in range(3)]
            told = await asyncio.gather(*map(gather, asks), return_exceptions=True)
            is_over.set()
            assert [type(each) for each in told] == [QueueUnavailable] * 3

    asyncio.run(run())
