"""The stream behind the overview: what it tells, and that many readers cost no more than one."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, aclosing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from penstock.api.app import create_app
from penstock.api.errors import TooManyRequests, Unavailable
from penstock.api.shared_looks import EVERY_S, MAX_BOARDS, MAX_OWN_BOARDS, Look, SharedLooks, View
from penstock.jobs.api_keys import ApiKeys, Scope
from penstock.jobs.redis_client import connect
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from tests.waiting import PATIENCE_S

from .conftest import IDLE_MODEL, MODEL, Stack
from .plain_jobs import events, rows, submit
from .serving import serving

EVENTS = "/v1/overview/events"
KEY = "sk-overview-0123456789"
LISTS = {"jobs", "runs", "workers", "queues"}
READERS, TABS = 200, 50
JOBS, RUNS = View("jobs"), View("runs")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Source:
    """Something to look at; counts how often it was."""

    def __init__(self, *shown: bytes) -> None:
        self.shown = list(shown)
        self.num_looks = 0

    async def __call__(self) -> bytes:
        self.num_looks += 1
        shown = self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]
        return bytes(bytearray(shown))  # what is the same is read anew as well


@pytest.mark.anyio
class TestSharedLooks:
    async def test_many_followers_take_one_look(self) -> None:
        looks, source = SharedLooks(every_s=3600), Source(b"now")
        async with AsyncExitStack() as stack:
            for _ in range(READERS):
                following = looks.follow({JOBS: source})
                await stack.enter_async_context(aclosing(following))
                assert await anext(following) == b"now"
            assert source.num_looks == 1
            assert looks.num_boards == 1
        assert looks.num_boards == 0

    async def test_only_what_has_changed_is_told(self) -> None:
        looks = SharedLooks(every_s=0)
        sources: dict[View, Look] = {
            JOBS: Source(b"old", b"old", b"old", b"new"),
            RUNS: Source(b"none"),
        }
        async with aclosing(looks.follow(sources)) as following:
            assert {await anext(following), await anext(following)} == {b"old", b"none"}
            assert await anext(following) == b"new"

    async def test_a_slow_follower_misses_what_lay_between(self) -> None:
        looks, source = SharedLooks(every_s=0), Source(*(b"%d" % n for n in range(100)))
        async with aclosing(looks.follow({JOBS: source})) as following:
            await anext(following)
            while source.num_looks <= 100:
                await asyncio.sleep(0)
            assert await anext(following) == b"99"

    async def test_nobody_follows_for_ever(self) -> None:
        looks, source = SharedLooks(every_s=0.001), Source(b"now")
        following = looks.follow({JOBS: source}, lambda: source.num_looks > 2)
        assert [each async for each in following] == [b"now"]
        assert looks.num_boards == 0

    async def test_there_are_no_more_boards_than_allowed(self) -> None:
        looks, source = SharedLooks(every_s=3600, max_boards=1), Source(b"now")
        async with aclosing(looks.follow({JOBS: source})) as following:
            await anext(following)
            looks.check_room({JOBS: source})
            with pytest.raises(Unavailable, match="1 different views"):
                looks.check_room({RUNS: source})
            with pytest.raises(Unavailable):
                await anext(looks.follow({RUNS: source}))
        await looks.close()

    async def test_one_owner_leaves_room_for_others(self) -> None:
        looks, source = SharedLooks(every_s=3600, max_boards=7, max_own_boards=2), Source(b"now")
        everybodys = {View(what): source for what in ("workers", "queues", "models")}
        async with AsyncExitStack() as stack:
            for what in ("jobs", "runs", "jobs"):
                following = looks.follow({View(what, "acme"): source, **everybodys})
                await stack.enter_async_context(aclosing(following))
                await anext(following)
            with pytest.raises(TooManyRequests, match="acme follows 2 different") as refused:
                looks.check_room({View("jobs of page 2", "acme"): source})
            assert (refused.value.status, refused.value.code) == (429, "too_many_views")
            looks.check_room({View("jobs", "other"): source, View("runs", "other"): source})
            looks.check_room(everybodys)
        assert looks.num_boards == 0
        assert MAX_OWN_BOARDS * 8 < MAX_BOARDS

    async def test_a_look_that_breaks_is_told_to_all_and_taken_anew(self) -> None:
        looks, is_time = SharedLooks(every_s=3600), asyncio.Event()

        async def broken() -> bytes:
            await is_time.wait()
            raise OSError("the look is broken")

        sources: dict[View, Look] = {RUNS: Source(b"none"), JOBS: broken}
        slow, quick = looks.follow(sources), looks.follow(sources)
        fresh = looks.follow({JOBS: Source(b"new")})
        async with asyncio.timeout(60), aclosing(slow), aclosing(quick), aclosing(fresh):
            assert await anext(slow) == await anext(quick) == b"none"
            waiting = asyncio.create_task(anext(quick))
            is_time.set()
            with pytest.raises(OSError, match="the look is broken"):
                await waiting
            assert await anext(fresh) == b"new"
            with pytest.raises(OSError, match="the look is broken"):
                await anext(slow)
            assert looks.num_boards == 1
        assert looks.num_boards == 0


def first_lists(http: httpx2.Client, names: set[str], **query: Any) -> dict[str, dict[str, Any]]:
    """Read a stream until every one of these has come."""
    found: dict[str, dict[str, Any]] = {}
    with http.stream("GET", EVENTS, params=query) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for _, kind, data in events(answer):
            found[kind] = data
            if names <= found.keys():
                return found
    raise AssertionError(f"the stream ended with {found.keys()}")


class TestStream:
    def test_tells_what_the_lists_tell(self, http: httpx2.Client) -> None:
        made = [submit(http, model=IDLE_MODEL, input={"rows": rows(1)}) for _ in range(3)]
        told = first_lists(http, LISTS, limit=2, jobs_status="queued")
        assert [job["id"] for job in told["jobs"]["data"]] == [made[2]["id"], made[1]["id"]]
        assert told["jobs"]["has_more"] is True
        assert told["runs"]["object"] == "list"
        assert [worker["model"] for worker in told["workers"]["data"]] == [MODEL]
        assert MODEL in [queue["model"] for queue in told["queues"]["data"]]
        behind = {"jobs_status": "queued", "jobs_after": made[1]["id"]}
        next_page = first_lists(http, {"jobs"}, **behind)["jobs"]["data"]
        assert next_page[0]["id"] == made[0]["id"]
        for job in made:
            http.post(f"/v1/jobs/{job['id']}/cancel")

    def test_tells_of_a_change(self, http: httpx2.Client, stack: Stack) -> None:
        job = submit(http, model=IDLE_MODEL, input={"rows": rows(1)})
        query = {"jobs_status": "paused"}
        with http.stream("GET", EVENTS, params=query) as answer, stack.http() as other:
            lists = (data["data"] for _, kind, data in events(answer) if kind == "jobs")
            told = ([each["id"] for each in jobs] for jobs in lists)
            assert job["id"] not in next(told)
            other.post(f"/v1/jobs/{job['id']}/pause")
            assert any(job["id"] in ids for ids in told)
        http.post(f"/v1/jobs/{job['id']}/cancel")

    def test_a_part_that_cannot_be_read_says_so_and_hides_no_other(
        self, http: httpx2.Client
    ) -> None:
        told = first_lists(http, {"refused", "runs"}, jobs_after="job_00000000000000000000000000")
        assert (told["refused"]["of"], told["refused"]["status"]) == ("jobs", 400)
        assert told["refused"]["error"]["param"] == "after"
        assert "jobs" not in told


@pytest.fixture
def guarded(redis_server: RedisServer, tmp_path: Path) -> Settings:
    return Settings(
        data=str(tmp_path / "data"),
        redis_url=redis_server.url,
        namespace=f"overview-{tmp_path.name}",
        models=(IDLE_MODEL,),
        api_key=KEY,
    )


def asking(url: str, key: str) -> httpx2.Client:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE_S)


def test_a_tenant_sees_its_own_and_no_machine(guarded: Settings) -> None:
    _, secret = ApiKeys(guarded.keys_dir).create("others", frozenset({Scope.READ}))
    with (
        serving(create_app(guarded), grace_s=1) as url,
        asking(url, KEY) as http,
        asking(url, secret) as other,
    ):
        job = submit(http, model=IDLE_MODEL, input={"rows": rows(1)})
        assert [each["id"] for each in first_lists(http, {"jobs"})["jobs"]["data"]] == [job["id"]]
        told = first_lists(other, {"jobs", "runs"})
        assert told.keys() == {"jobs", "runs"}
        assert told["jobs"]["data"] == []
        assert httpx2.get(url + EVENTS, timeout=PATIENCE_S).status_code == 401


def test_a_tenant_with_too_many_views_shuts_out_nobody_else(guarded: Settings) -> None:
    _, secret = ApiKeys(guarded.keys_dir).create("others", frozenset({Scope.READ}))
    with (
        serving(create_app(guarded), grace_s=1) as url,
        asking(url, KEY) as http,
        asking(url, secret) as other,
        ExitStack() as stack,
    ):
        held = []  # or the streams would end here
        for limit in range(1, MAX_OWN_BOARDS // 2 + 1):  # each of jobs and of runs
            answer = stack.enter_context(other.stream("GET", EVENTS, params={"limit": limit}))
            held.append(events(answer))
            assert next(held[-1])[1] in LISTS
        refused = other.get(EVENTS, params={"limit": 99})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_views")
        assert first_lists(other, {"jobs", "runs"}, limit=1).keys() == {"jobs", "runs"}
        assert first_lists(http, LISTS, limit=99).keys() == LISTS


def test_a_server_that_stops_waits_for_no_overview(guarded: Settings) -> None:
    with ExitStack() as stack:
        # It has to stop within 60 s.
        with serving(create_app(guarded), grace_s=600) as url:
            http = stack.enter_context(asking(url, KEY))
            told = events(stack.enter_context(http.stream("GET", EVENTS)))
            assert next(told)[1] in LISTS
        assert {kind for _, kind, _ in told} <= LISTS


@pytest.mark.anyio
async def test_many_open_overviews_take_no_more_of_redis_than_one(guarded: Settings) -> None:
    def num_lists(client: redis.Redis) -> int:
        """How often Redis was asked for the places of jobs in their order."""
        told: Any = client.info("commandstats")
        return told.get("cmdstat_zrevrange", {}).get("calls", 0)

    held: list[AsyncIterator[str]] = []

    async def read_first(http: httpx2.AsyncClient, stack: AsyncExitStack) -> None:
        answer = await stack.enter_async_context(http.stream("GET", EVENTS))
        lines = answer.aiter_lines()
        held.append(lines)  # or the stream would end with this function
        async for line in lines:
            if line == "event: jobs":
                return

    options: dict[str, Any] = {
        "headers": {"authorization": f"Bearer {KEY}"},
        "limits": httpx2.Limits(max_connections=None),
        "timeout": PATIENCE_S,
    }
    with serving(create_app(guarded), grace_s=1) as url, connect(guarded) as client:
        began_s, before = time.monotonic(), num_lists(client)
        async with (
            httpx2.AsyncClient(base_url=url, **options) as http,
            AsyncExitStack() as stack,
        ):
            for _ in range(TABS):
                await read_first(http, stack)
            looks = num_lists(client) - before
        took_s = time.monotonic() - began_s
    assert 0 < looks <= took_s / EVERY_S + 1
