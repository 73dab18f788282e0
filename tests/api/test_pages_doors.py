"""What lies between a reader and the data: a key that is asked for, and a server that goes away."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import redis
from playwright.sync_api import Browser, Page, Response, Route, expect
from starlette.types import ASGIApp, Receive, Scope as AsgiScope, Send

from penstock.api.app import create_app
from penstock.api.event_feed import HEARTBEAT_S
from penstock.api.web_pages import FOLDER
from penstock.jobs.api_keys import ApiKeys, Scope
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from tests.browser import open_browser
from tests.ports import reserved_port
from tests.waiting import PATIENCE_S, wait_for

from .conftest import IDLE_MODEL
from .page_reader import reading
from .serving import serving

KEY = "sk-pages-0123456789abcdef"
JOB = {"model": IDLE_MODEL, "prompt": "{{ row.text }}", "input": {"rows": [{"text": "x"}] * 3}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def guarded(redis_server: RedisServer, tmp_path: Path) -> Settings:
    return Settings(
        data=str(tmp_path / "data"),
        redis_url=redis_server.url,
        namespace=f"pages-{tmp_path.name}",
        models=(IDLE_MODEL,),
        api_key=KEY,
        flower_url="http://flower.example:5555",
    )


def asking(url: str) -> httpx2.Client:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE_S)


def give_key(page: Page, key: str) -> None:
    page.get_by_label("API key").last.fill(key)
    page.get_by_role("button", name="Continue").click()


def allow_only_small_files(route: Route) -> None:
    answer = route.fetch()
    text = answer.text()
    assert "50_000_000" in text
    route.fulfill(response=answer, body=text.replace("50_000_000", "50"))


def test_a_key_is_asked_for_once_in_a_tab(browser: Browser, guarded: Settings) -> None:
    with (
        serving(create_app(guarded), grace_s=1) as url,
        asking(url) as http,
        reading(browser, url) as reader,
    ):
        job_id = http.post("/v1/jobs", json={**JOB, "name": "guarded"}).json()["id"]
        page = reader.open("/")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        assert "guarded" not in page.content()
        expect(page.locator("#live")).to_have_text("waiting for a key")
        give_key(page, "„sk-wrong“")  # no header could carry it
        expect(page.get_by_role("alert")).to_contain_text("letters, digits and signs of ASCII")
        give_key(page, "sk-wrong")
        expect(page.get_by_role("alert")).to_contain_text("Incorrect API key")
        give_key(page, KEY)
        expect(page.locator("#jobs tbody")).to_contain_text("guarded")
        expect(dialog).to_be_hidden()
        expect(page.locator("#flower")).to_have_attribute("href", "http://flower.example:5555/")
        page.locator("#jobs").get_by_role("link").click()
        expect(page.locator("#name")).to_have_text("guarded")
        expect(page.locator("#state")).to_have_text("queued")
        http.post(f"/v1/jobs/{job_id}/pause")
        expect(page.locator("#state")).to_have_text("paused")
        expect(dialog).to_be_hidden()
        with page.expect_download() as download:
            page.get_by_role("button", name="All rows, as JSON lines").click()
        assert download.value.suggested_filename == f"{job_id}.jsonl"
        page.route("**/assets/api.js", allow_only_small_files)
        page.route(re.compile("/results$"), lambda route: route.fulfill(body="x" * 100))
        reader.open(f"/ui/jobs/{job_id}")
        page.get_by_role("button", name="All rows, as JSON lines").click()
        expect(page.locator("#links-problem")).to_contain_text(
            f"penstock results {job_id} -o jsonl"
        )
        page.get_by_role("button", name="Change key").click()
        expect(dialog).to_be_visible()
        assert KEY not in page.content()


def test_a_key_that_only_reads_is_offered_no_buttons(browser: Browser, guarded: Settings) -> None:
    guarded = replace(guarded, flower_url="javascript:alert(1)")
    _, secret = ApiKeys(guarded.keys_dir).create("default", frozenset({Scope.READ}))
    with (
        serving(create_app(guarded), grace_s=1) as url,
        asking(url) as http,
        reading(browser, url) as reader,
    ):
        job_id = http.post("/v1/jobs", json=JOB).json()["id"]
        page = reader.open("/ui")
        give_key(page, secret)
        expect(page.locator("#workers-empty")).to_contain_text("scope admin")
        reader.open(f"/ui/jobs/{job_id}")
        expect(page.locator("#links")).to_contain_text("JSON lines")
        expect(page.locator("#flower")).to_be_hidden()
        assert "javascript" not in page.content()
        assert page.locator("#acts button:visible").count() == 0


def somebody_follows(redis_server: RedisServer) -> bool:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        return any(each["cmd"] == "xread" and "b" in each["flags"] for each in client.client_list())


def test_a_page_comes_back_with_its_server(
    browser: Browser, guarded: Settings, redis_server: RedisServer
) -> None:
    with reserved_port() as port, ExitStack() as running:
        url = f"http://127.0.0.1:{port}"
        http = running.enter_context(asking(url))
        reader = running.enter_context(reading(browser, url))
        with serving(create_app(guarded), grace_s=1, port=port):
            job_id = http.post("/v1/jobs", json=JOB).json()["id"]
            page = reader.open(f"/ui/jobs/{job_id}")
            give_key(page, KEY)
            expect(page.locator("#state")).to_have_text("queued")
            expect(page.locator("#live")).to_have_text("live")
            reader.mark()
            wait_for(lambda: somebody_follows(redis_server), "the page to follow events")
            http.post(f"/v1/jobs/{job_id}/pause")
            expect(page.locator("#state")).to_have_text("paused")

        def goes_on(answer: Response) -> bool:
            return answer.url.endswith("/events") and "last-event-id" in answer.request.headers

        with page.expect_response(goes_on):  # listened for before there is a server
            expect(page.locator("#live")).to_have_text("disconnected")
            expect(page.locator(".banner")).to_contain_text("Disconnected, trying again")
            expect(page.locator("#state")).to_have_text("paused")  # what was known stays
            running.enter_context(serving(create_app(guarded), grace_s=1, port=port))
        http.post(f"/v1/jobs/{job_id}/cancel")
        expect(page.locator("#state")).to_have_text("cancelled")
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator(".banner")).to_be_hidden()
        reader.check_not_reloaded()


def freezing(app: ASGIApp, frozen: threading.Event, thaw: threading.Event) -> ASGIApp:
    """Let all of a server stand still from a request for /freeze on, until there is a thaw."""

    async def answer(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/freeze":
            frozen.set()
            thaw.wait(10 * PATIENCE_S)
        await app(scope, receive, send)

    return answer


def test_who_follows_hears_a_heartbeat_and_the_pages_wait_for_three(
    guarded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = f"SILENCE_MS = {int(3000 * HEARTBEAT_S):_};"
    assert waits in (FOLDER / "api.js").read_text(encoding="utf-8")
    monkeypatch.setattr("penstock.api.event_feed.HEARTBEAT_S", 0.05)
    with serving(create_app(guarded), grace_s=1) as url, asking(url) as http:
        job_id = http.post("/v1/jobs", json=JOB).json()["id"]
        with http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            assert any(line == ": ping" for line in answer.iter_lines())


@pytest.mark.parametrize("thing", ["overview", "job"])
def test_a_server_that_says_nothing_for_three_heartbeats_is_away(
    browser: Browser, guarded: Settings, thing: str
) -> None:
    frozen, thaw = threading.Event(), threading.Event()
    app = freezing(create_app(guarded), frozen, thaw)
    with (
        serving(app, grace_s=1) as url,
        asking(url) as http,
        reading(browser, url) as reader,
    ):
        job_id = http.post("/v1/jobs", json=JOB).json()["id"]
        reader.page.clock.install()
        page = reader.open("/ui" if thing == "overview" else f"/ui/jobs/{job_id}")
        with page.expect_response(lambda answer: "/events" in answer.url):
            give_key(page, KEY)
        expect(page.locator("#live")).to_have_text("live")
        reader.mark()
        try:
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.get(f"{url}/freeze", timeout=0.5)
            assert frozen.wait(PATIENCE_S)
            page.clock.fast_forward(int(3000 * HEARTBEAT_S))
            expect(page.locator("#live")).to_have_text("disconnected")
            expect(page.locator(".banner")).to_contain_text("Disconnected, trying again")
        finally:
            thaw.set()
        expect(page.locator("#live")).to_have_text("live")
        http.post(f"/v1/jobs/{job_id}/cancel")
        told = page.locator("#jobs tbody tr" if thing == "overview" else "#state")
        expect(told).to_contain_text("cancelled")
        reader.check_not_reloaded()
