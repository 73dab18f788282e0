"""What went wrong in a run, on its page: told in full, named as what it is, and tried again."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser import open_browser

from .conftest import Stack
from .page_reader import NARROW, Reader, reading
from .plain_jobs import jsonl
from .plain_workflows import WORKFLOW, rows, wait

STEPS: list[dict[str, Any]] = [
    {"id": "half", "type": "map", "set": {"x": "1 / (row.size % 2)"}, "on_error": "default",
     "default": {"x": 0}},
    {"id": "fifth", "type": "map", "set": {"y": "1 / (row.size % 5)"}},
    {"id": "first", "type": "filter", "where": "row.size == 1"},
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def reader(browser: Browser, stack: Stack) -> Iterator[Reader]:
    with reading(browser, stack.url) as reader:
        yield reader


def begun(http: httpx2.Client) -> str:
    """Run over 30 rows, of which 15 are defaulted and 6 fail, and 2 lines that are none."""
    lines = jsonl(rows(30)) + b"no row\nnone either\n"
    workflow = {**WORKFLOW, "steps": STEPS, "output": {}, "max_error_rate": 1}
    request = {"workflow": workflow}
    files = {"file": ("texts.jsonl", lines)}
    answer = http.post("/v1/workflows/runs", data={"request": json.dumps(request)}, files=files)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def finished(http: httpx2.Client) -> str:
    run_id = begun(http)
    assert wait(http, run_id)["status"] == "completed_with_errors"
    return run_id


def test_all_that_went_wrong_is_told_page_by_page(reader: Reader, http: httpx2.Client) -> None:
    page = reader.open(f"/ui/runs/{finished(http)}")
    expect(page.locator("#live")).to_have_text("ended")
    facts = page.locator("#facts")
    expect(facts).to_contain_text("2 lines refused")
    expect(facts).to_contain_text("15 defaulted")
    half = page.locator("#steps tbody tr", has_text="half").locator("td[data-label=Defaulted]")
    expect(half).to_have_text("15")
    expect(page.locator("#graph [data-node=first]")).to_contain_text("1 row")
    expect(page.locator("#graph [data-node=first]")).not_to_contain_text("1 rows")
    faults = page.locator("#faults li")
    expect(faults).to_have_count(10)
    expect(faults.first).to_contain_text("texts, line 31 rejected_line")
    expect(faults.nth(2)).to_contain_text("half: 0 (defaulted) expression_error")
    more = page.get_by_role("button", name="More")
    for count in (20, 23):
        more.click()
        expect(faults).to_have_count(count)
    expect(more).to_be_hidden()
    expect(faults.last).to_contain_text("fifth: 25 expression_error")
    expect(faults.last.locator("pre")).to_contain_text("1 / (row.size % 5)")
    faults.last.get_by_role("button", name="25").click()
    failed = page.locator("#history section", has_text="fifth · 25")
    expect(failed).to_contain_text("went wrongexpression_error: / by zero")
    page.get_by_label("Row id").fill("1")
    page.get_by_role("button", name="Tell").click()
    passed = page.locator("#history section", has_text="first · 1")
    expect(passed).to_contain_text("It went through as it was.")
    page.locator("#faults-filter").get_by_role("button", name="rejected_line").click()
    expect(faults).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?row=1&errors=rejected_line$"))
    page.reload()
    expect(faults).to_have_count(2)


def test_what_failed_is_retried(reader: Reader, http: httpx2.Client) -> None:
    run_id = finished(http)
    page = reader.open(f"/ui/runs/{run_id}")
    page.locator("#acts").get_by_role("button", name="Retry what failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry what failed").click()
    page.wait_for_url(lambda url: "/ui/runs/run_" in url and run_id not in url)
    expect(page.locator("#state")).to_have_text("completed with errors")
    made = page.url.rpartition("/")[2]
    assert http.get(f"/v1/workflows/runs/{made}").json()["retry_of"] == run_id


def test_a_trial_is_marked(reader: Reader, http: httpx2.Client) -> None:
    body = {"workflow": {**WORKFLOW, "steps": STEPS, "output": {}}, "rows": 2}
    answer = http.post(
        "/v1/workflows/preview", json={**body, "inputs": {"texts": {"rows": rows(3)}}}
    )
    assert answer.status_code == 200, answer.text
    trial, other = answer.json()["run"]["id"], finished(http)
    page = reader.open("/ui")
    lines = page.locator("#runs tbody tr")
    expect(lines.filter(has_text=trial).locator(".trial")).to_be_visible()
    expect(lines.filter(has_text=other).locator(".trial")).to_be_hidden()
    reader.open(f"/ui/runs/{trial}")
    expect(page.locator("#state .trial")).to_be_visible()
    reader.open(f"/ui/runs/{other}")
    expect(page.locator("#state")).to_have_text("completed with errors")


def test_a_graph_shows_that_there_is_more_of_it(reader: Reader, http: httpx2.Client) -> None:
    run_id = finished(http)
    reader.page.set_viewport_size(NARROW)
    page = reader.open(f"/ui/runs/{run_id}")
    graph = page.locator("#graph")
    expect(graph).to_have_class("graph more-right")
    expect(graph).to_have_css("--right", "transparent")
    graph.evaluate("(node) => node.scrollTo(40, 0)")
    expect(graph).to_have_class("graph more-right more-left")
    reader.check_fits()

    def let_the_second_step_run(route: Route) -> None:
        told = route.fetch()
        run = told.json()
        run["steps"][1]["state"] = "running"
        route.fulfill(response=told, json=run)

    page.route(f"**/v1/workflows/runs/{run_id}", let_the_second_step_run)
    page.reload()  # now what runs is in the middle
    expect(graph).to_have_class("graph more-right more-left")
