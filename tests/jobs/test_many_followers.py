"""Many who follow one job wait at Redis as one."""

import asyncio
import gc
from typing import Any

import redis

from penstock.jobs.events import DONE, AsyncJobEvents, JobEvents
from penstock.jobs.keys import Keys
from penstock.jobs.redis_client import connect_async
from penstock.jobs.settings import Settings

JOB = "job_1"
NUM_FOLLOWERS = 100
NUM_EVENTS = 20


def num_blocked(client: Any) -> int:
    return client.info("clients")["blocked_clients"]


def test_followers_share_a_connection_and_miss_nothing(
    redis_client: redis.Redis, keys: Keys, settings: Settings
) -> None:
    events = JobEvents(redis_client, keys)

    async def run() -> tuple[list[list[Any]], list[int]]:
        async with connect_async(settings) as client:
            following = AsyncJobEvents(client, keys)

            async def follow() -> list[Any]:
                return [event.data.get("n") async for event in following.follow(JOB, "0-0")]

            everybody = asyncio.gather(*(follow() for _ in range(NUM_FOLLOWERS)))
            leaver = asyncio.create_task(follow())
            blocked: list[int] = []
            while blocked.count(1) < 10:  # some time, in which all of them begin to wait
                await asyncio.sleep(0.01)
                blocked.append(await asyncio.to_thread(num_blocked, redis_client))
            leaver.cancel()  # whoever leaves takes nothing from the others
            for number in range(NUM_EVENTS):
                await asyncio.to_thread(events.publish, JOB, "n", {"n": number})
                blocked.append(await asyncio.to_thread(num_blocked, redis_client))
            await asyncio.to_thread(events.publish, JOB, DONE, {})
            return await everybody, blocked

    heard, blocked = asyncio.run(asyncio.wait_for(run(), 60))
    assert heard == [[*range(NUM_EVENTS), None]] * NUM_FOLLOWERS
    assert max(blocked) == 1


def test_a_look_that_fails_after_all_have_left_is_no_unheard_complaint(
    keys: Keys, settings: Settings
) -> None:
    async def run() -> list[str]:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["message"])
        )
        async with connect_async(settings) as client:
            following = AsyncJobEvents(client, keys)
            begun, is_lost = asyncio.Event(), asyncio.Event()

            async def read(*_: object, **__: object) -> None:
                begun.set()
                await is_lost.wait()
                raise redis.ConnectionError("lost")

            following._redis.xread = read
            leaver = asyncio.ensure_future(anext(following.follow(JOB, "0-0")))
            await begun.wait()
            leaver.cancel()
            await asyncio.wait({leaver})
            is_lost.set()
            while following._looks:
                await asyncio.sleep(0)
            gc.collect()
        return complaints

    assert asyncio.run(run()) == []


def test_nobody_is_left_at_redis_when_all_is_closed(
    redis_client: redis.Redis, keys: Keys, settings: Settings
) -> None:
    async def run() -> int:
        async with connect_async(settings) as client:
            following = AsyncJobEvents(client, keys)

            async def follow() -> None:
                async for _ in following.follow(JOB, "0-0"):
                    pass

            before = asyncio.all_tasks()
            follower = asyncio.create_task(follow())
            while not await asyncio.to_thread(num_blocked, redis_client):
                await asyncio.sleep(0.01)
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            await following.close()
            return len(asyncio.all_tasks() - before)

    assert asyncio.run(asyncio.wait_for(run(), 20)) == 0
