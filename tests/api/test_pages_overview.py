"""What the overview tells when a part of it cannot be read, or all of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser import open_browser

from .conftest import Stack
from .page_reader import Reader, reading

EVENTS = "**/v1/overview/events*"
NOTHING = {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def reader(browser: Browser, stack: Stack) -> Iterator[Reader]:
    with reading(browser, stack.url) as reader:
        yield reader


def stream(*events: tuple[str, dict[str, Any]]) -> str:
    return "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)


def refused(part: str, status: int, message: str) -> tuple[str, dict[str, Any]]:
    error = {"message": message, "type": "api_error", "param": None, "code": "broken"}
    return "refused", {"of": part, "status": status, "error": error}


def answer_with(reader: Reader, first: str, with_filter: str) -> None:
    """Answer with the first until the reader asks for runs of some states."""

    def answer(route: Route) -> None:
        body = with_filter if "runs_status=" in route.request.url else first
        route.fulfill(content_type="text/event-stream", body=body)

    reader.page.route(EVENTS, answer)


@pytest.mark.parametrize(
    ("status", "look", "words"),
    [(500, "banner problem", "runs are broken"), (503, "banner", "Redis is away")],
)
def test_a_part_that_cannot_be_read_is_told_until_it_can(
    reader: Reader, status: int, look: str, words: str
) -> None:
    lists = [(part, NOTHING) for part in ("jobs", "workers", "queues")]
    first = stream(refused("runs", status, words), *lists)
    answer_with(reader, first, stream(("runs", NOTHING), *lists))
    page = reader.open("/ui")
    banner = page.locator(".banner")
    expect(banner).to_contain_text(words)
    expect(banner).to_be_visible()
    expect(banner).to_have_class(look)
    expect(page.locator("#jobs-empty")).to_contain_text("No jobs yet")
    page.locator("#runs-filter").get_by_role("button", name="Paused").click()
    expect(page.locator("#runs-empty")).to_contain_text("No runs in this state")
    expect(banner).to_be_hidden()
    expect(page.locator("#live")).to_have_text("live")


def test_what_is_left_is_told_when_one_of_two_can_be_read_again(reader: Reader) -> None:
    broken = [refused("jobs", 500, "jobs are broken"), refused("runs", 500, "runs are broken")]
    answer_with(reader, stream(*broken), stream(broken[0], ("runs", NOTHING)))
    page = reader.open("/ui")
    banner = page.locator(".banner")
    expect(banner).to_have_text("jobs are broken; runs are broken")
    page.locator("#runs-filter").get_by_role("button", name="Paused").click()
    expect(banner).to_have_text("jobs are broken")


def test_a_server_that_says_why_it_is_away_is_believed(reader: Reader) -> None:
    told = {"error": {"message": "too many follow already", "code": "too_many_followers"}}
    reader.page.route(EVENTS, lambda route: route.fulfill(status=503, json=told))
    page = reader.open("/ui")
    expect(page.locator(".banner")).to_have_text(
        "Disconnected, trying again: too many follow already"
    )
    expect(page.locator("#live")).to_have_text("disconnected")
