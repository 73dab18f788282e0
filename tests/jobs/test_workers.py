import asyncio
import time
from types import SimpleNamespace

import pytest
import redis

from penstock.jobs.keys import Keys
from penstock.jobs.redis_client import connect_async
from penstock.jobs.settings import Settings
from penstock.jobs.workers import LIFETIME_MS, AsyncWorkerRegister, WorkerRegister

from .idle_workers import idle_worker


def test_announce_and_withdraw(redis_client: redis.Redis, keys: Keys) -> None:
    register = WorkerRegister(redis_client, keys)
    assert register.list() == []
    register.announce(idle_worker("b"))
    register.announce(idle_worker("a"))
    assert [info.name for info in register.list()] == ["a", "b"]
    assert 0 < redis_client.pttl(keys.worker("a")) <= LIFETIME_MS
    register.withdraw("a")
    assert [info.name for info in register.list()] == ["b"]


def test_a_silent_worker_is_struck_off(redis_client: redis.Redis, keys: Keys) -> None:
    register = WorkerRegister(redis_client, keys)
    register.announce(idle_worker("a"))
    redis_client.pexpire(keys.worker("a"), 1)
    time.sleep(0.01)
    assert register.list() == []
    assert redis_client.scard(keys.workers) == 0


def test_the_event_loop_sees_who_serves(
    redis_client: redis.Redis, keys: Keys, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    clock = SimpleNamespace(monotonic=lambda: now_s)
    monkeypatch.setattr("penstock.jobs.workers.time", clock)
    register = WorkerRegister(redis_client, keys)
    for info in (idle_worker("a"), idle_worker("b", is_draining=True), idle_worker("c", "other")):
        register.announce(info)

    async def look() -> tuple[list[str], list[str], list[str]]:
        nonlocal now_s
        async with connect_async(settings) as client:
            seen = AsyncWorkerRegister(client, keys, max_age_s=0.2)
            everyone = [info.name for info in await seen.list()]
            register.withdraw("c")
            remembered = [info.name for info in await seen.list()]
            now_s += 0.25
            assert [info.name for info in await seen.list()] == ["a", "b"]
            return everyone, remembered, [info.name for info in await seen.serving("m")]

    assert asyncio.run(look()) == (["a", "b", "c"], ["a", "b", "c"], ["a"])


def test_many_who_ask_at_once_share_one_look(
    redis_client: redis.Redis, keys: Keys, settings: Settings
) -> None:
    WorkerRegister(redis_client, keys).announce(idle_worker("a"))

    async def look() -> int:
        async with connect_async(settings) as client:
            seen = AsyncWorkerRegister(client, keys)
            impatient = asyncio.create_task(seen.list())
            others = [asyncio.create_task(seen.list()) for _ in range(200)]
            await asyncio.sleep(0)
            impatient.cancel()
            for infos in await asyncio.gather(*others):
                assert [info.name for info in infos] == ["a"]
            return len(client.connection_pool._available_connections)

    assert asyncio.run(look()) == 1


def test_a_worker_that_is_not_understood_hides_no_other(
    redis_client: redis.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    register = WorkerRegister(redis_client, keys)
    register.announce(idle_worker("a"))
    redis_client.sadd(keys.workers, "b")
    redis_client.set(keys.worker("b"), '{"name": "b"}')
    assert [info.name for info in register.list()] == ["a"]
    assert "worker b" in caplog.text


def test_the_event_loop_has_connections_for_many_followers(settings: Settings) -> None:
    assert connect_async(settings).connection_pool.max_connections >= 4_096
