import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import redis

from penstock.jobs.events import DONE, KEPT_S, RESET, AsyncJobEvents, JobEvent, JobEvents
from penstock.jobs.keys import Keys
from penstock.jobs.redis_client import connect_async
from penstock.jobs.settings import Settings
from tests.waiting import PATIENCE_S, wait_for

JOB = "job_1"


def follow(
    settings: Settings,
    keys: Keys,
    last_id: str | None = None,
    is_final: Callable[[], Awaitable[bool]] | None = None,
) -> list[JobEvent]:
    async def run() -> list[JobEvent]:
        async with connect_async(settings) as client:
            events = AsyncJobEvents(client, keys).follow(JOB, last_id, is_final=is_final)
            return [event async for event in events]

    return asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_a_follower_hears_what_happens_until_the_end(
    redis_client: redis.Redis, keys: Keys, settings: Settings
) -> None:
    events = JobEvents(redis_client, keys)
    events.publish(JOB, "before", {})

    def is_followed() -> bool:
        clients: Any = redis_client.info("clients")
        return clients["blocked_clients"] > 0

    def happen() -> None:
        wait_for(is_followed, "somebody who waits for what happens")
        for number in range(5):
            events.publish(JOB, "shard.landed", {"index": number})
        events.publish(JOB, DONE, {"status": "completed"})

    thread = threading.Thread(target=happen)
    thread.start()
    heard = follow(settings, keys)
    thread.join()
    assert [event.kind for event in heard] == ["shard.landed"] * 5 + [DONE]
    assert [event.data for event in heard[:5]] == [{"index": number} for number in range(5)]
    assert 0 < redis_client.ttl(keys.events(JOB)) <= KEPT_S


def test_a_follower_goes_on_where_it_stopped(
    redis_client: redis.Redis, keys: Keys, settings: Settings
) -> None:
    events = JobEvents(redis_client, keys)
    for number in range(3):
        events.publish(JOB, "n", {"n": number})
    events.publish(JOB, DONE, {})
    everything = follow(settings, keys, "0-0")
    assert [event.kind for event in everything] == ["n", "n", "n", DONE]
    rest = follow(settings, keys, everything[1].id)
    assert rest == everything[2:]


def test_a_follower_who_missed_events_is_told(
    redis_client: redis.Redis, keys: Keys, settings: Settings
) -> None:
    events = JobEvents(redis_client, keys)
    for number in range(3):
        events.publish(JOB, "n", {"n": number})
    events.publish(JOB, DONE, {})
    first = follow(settings, keys, "0-0")[0]
    redis_client.xtrim(keys.events(JOB), maxlen=2, approximate=False)
    assert [event.kind for event in follow(settings, keys, first.id)] == [RESET, "n", DONE]


def test_who_comes_after_the_end_waits_for_nothing(
    redis_client: redis.Redis, keys: Keys, settings: Settings
) -> None:
    JobEvents(redis_client, keys).publish(JOB, DONE, {"status": "completed"})
    assert [event.kind for event in follow(settings, keys)] == [DONE]


def test_an_end_without_a_word_is_found_out(keys: Keys, settings: Settings) -> None:
    async def is_final() -> bool:
        return True

    assert [event.kind for event in follow(settings, keys, is_final=is_final)] == [DONE]
