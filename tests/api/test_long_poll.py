"""Who waits for a change of a job is no burden: to Redis, to others, to a server that stops."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from penstock.api import long_poll
from penstock.api.app import create_app
from penstock.api.errors import TooManyRequests
from penstock.api.long_poll import LongPolls
from penstock.api.principal import Principal, note_principal
from penstock.jobs.model import JobState
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, Stack
from .serving import serving

JOB = {"model": IDLE_MODEL, "prompt": "x", "input": {"rows": [{"n": 1}]}}
PATIENCE_S = 30.0  # less than anybody waits for a change


def _request(holder: Principal, receive: Callable[[], Awaitable[Any]]) -> Any:
    scope: dict[str, Any] = {"type": "http"}
    note_principal(scope, holder)
    return SimpleNamespace(scope=scope, receive=receive)


async def _stay() -> Any:
    await asyncio.Event().wait()


def test_those_who_wait_for_the_same_share_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "_LOOK_EVERY_S", 0.01)
    looks: list[int] = []

    async def look() -> Any:
        looks.append(len(looks))
        is_over = len(looks) > 60
        return SimpleNamespace(state=JobState.COMPLETED if is_over else JobState.RUNNING)

    async def work() -> list[Any]:
        polls = LongPolls()
        waits = [
            polls.next_change(_request(Principal("a"), _stay), "job_1", look, lambda _: 0, 60)
            for _ in range(50)
        ]
        seen = await asyncio.gather(*waits)
        assert not polls._looks
        assert not polls._waiting
        return seen

    assert all(seen.state.is_final for seen in asyncio.run(work()))
    assert len(looks) == 61, "a first one each; then one for all"


def test_who_knows_another_state_is_told_at_once() -> None:
    async def look() -> Any:
        return SimpleNamespace(state=JobState.PAUSED)

    async def ask(known: JobState | None) -> "asyncio.Task[Any]":
        polled = LongPolls().next_change(
            _request(Principal("a"), _stay), "job_1", look, lambda _: 0, 60, known
        )
        task = asyncio.create_task(polled)
        for _ in range(20):
            await asyncio.sleep(0)  # as long as nobody has to wait for anything
        return task

    async def work() -> None:
        assert (await ask(JobState.QUEUED)).done()
        for known in (JobState.PAUSED, None):
            waiting = await ask(known)
            assert not waiting.done()
            waiting.cancel()
            await asyncio.wait({waiting})

    asyncio.run(work())


def test_a_key_has_no_more_waiting_than_it_may() -> None:
    async def look() -> Any:
        return SimpleNamespace(state=JobState.RUNNING)

    async def work() -> None:
        polls = LongPolls(max_per_key=1)

        def begin(holder: Principal, wait_s: float = 60.0) -> "asyncio.Task[Any]":
            request = _request(holder, _stay)
            return asyncio.create_task(
                polls.next_change(request, "job_1", look, lambda _: 0, wait_s)
            )

        mine, other = Principal("a", key_id="key_1"), Principal("a", key_id="key_2")
        waiting = begin(mine)
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests, match="waits for 1 changes") as refused:
            await begin(mine)
        assert refused.value.code == "too_many_waits"
        assert (await begin(mine, 0)).state is JobState.RUNNING, "who does not wait is answered"
        assert (await begin(other, 0.01)).state is JobState.RUNNING
        waiting.cancel()
        await asyncio.wait({waiting})
        assert (await begin(mine, 0.01)).state is JobState.RUNNING

    asyncio.run(work())


@pytest.fixture
def door(stack: Stack, tmp_path: Any) -> Iterator[tuple[str, FastAPI]]:
    app = create_app(replace(stack.settings, data=str(tmp_path), namespace=tmp_path.name))
    with serving(app) as url:
        yield url, app


def test_who_waits_hears_at_once_of_a_change(door: tuple[str, FastAPI]) -> None:
    url, app = door
    path = f"{url}/v1/jobs/{httpx2.post(f'{url}/v1/jobs', json=JOB, timeout=60).json()['id']}"
    asked = {"params": {"wait": 2 * PATIENCE_S}, "timeout": 3 * PATIENCE_S}
    with ThreadPoolExecutor() as threads:
        polled = threads.submit(httpx2.get, path, **asked)
        wait_for(lambda: app.state.services.polls._waiting)
        httpx2.post(f"{path}/cancel", timeout=60)
        assert polled.result(PATIENCE_S).json()["status"] == "cancelled"
    assert httpx2.get(path, **asked).json()["status"] == "cancelled", "nothing more will change"


def test_a_state_that_was_seen_before_is_no_more_waited_with(door: tuple[str, FastAPI]) -> None:
    url, _ = door
    job_id = httpx2.post(f"{url}/v1/jobs", json=JOB, timeout=60).json()["id"]
    asked = {"params": {"wait": 59, "seen": "running"}, "timeout": PATIENCE_S}
    assert httpx2.get(f"{url}/v1/jobs/{job_id}", **asked).json()["status"] == "queued"
    odd = httpx2.get(f"{url}/v1/jobs/{job_id}", params={"wait": 1, "seen": "asleep"}, timeout=60)
    assert odd.status_code == 400


def test_nobody_waits_for_a_client_that_has_left(door: tuple[str, FastAPI]) -> None:
    url, app = door
    job_id = httpx2.post(f"{url}/v1/jobs", json=JOB, timeout=60).json()["id"]
    waiting = app.state.services.polls._waiting

    async def leave_early() -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
            asked = asyncio.create_task(http.get(f"/v1/jobs/{job_id}?wait=59"))
            while not waiting:
                await asyncio.sleep(0.01)
            asked.cancel()
            await asyncio.wait({asked})

    asyncio.run(asyncio.wait_for(leave_early(), PATIENCE_S))
    wait_for(lambda: not waiting, patience_s=PATIENCE_S)


def test_who_waits_is_answered_when_the_server_stops(stack: Stack, tmp_path: Any) -> None:
    app = create_app(replace(stack.settings, data=str(tmp_path), namespace=tmp_path.name))
    with ThreadPoolExecutor(1) as pool:
        with serving(app) as url:
            job_id = httpx2.post(f"{url}/v1/jobs", json=JOB, timeout=60).json()["id"]
            asked: Future[httpx2.Response] = pool.submit(
                httpx2.get, f"{url}/v1/jobs/{job_id}?wait=59", timeout=PATIENCE_S
            )
            wait_for(lambda: app.state.services.polls._waiting)
        answer = asked.result(PATIENCE_S)
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
