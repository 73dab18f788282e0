"""What was chosen on a page stays in its address; what an address says beside that does no harm."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx2
import pytest
from playwright.sync_api import Browser, Request, expect

from tests.browser import open_browser

from .conftest import IDLE_MODEL, Stack
from .page_reader import Reader, reading
from .plain_jobs import rows, submit
from .plain_workflows import endless, rows as texts

EVIL = "<img src=x onerror=\"document.body.dataset.hacked='1'\">"

_FOCUS_THROUGH_REDRAWS = """async () => {
  const { drawChips } = await import("/ui/assets/paging.js");
  const parent = document.body.appendChild(document.createElement("nav"));
  const draw = (...values) =>
    drawChips(parent, values.map((value) => [value, value || "All"]), "", () => {});
  const at = () => document.activeElement.dataset.choice ?? document.activeElement.tagName;
  draw("", "common", "rare");
  parent.lastChild.focus();
  draw("", "new", "rare", "common");
  const focused = [at()];
  draw("", "new", "common"); // the one that had it is gone
  focused.push(at());
  document.activeElement.blur();
  draw("", "new");
  return [...focused, at()];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def reader(browser: Browser, stack: Stack) -> Iterator[Reader]:
    with reading(browser, stack.url) as reader:
        yield reader


def test_states_that_were_chosen_are_there_after_a_reload(reader: Reader) -> None:
    def asks_for_both(request: Request) -> bool:
        asked = request.url
        return "/overview/events" in asked and all(
            states in asked for states in ("jobs_status=paused", "runs_status=expired")
        )

    page = reader.open("/ui")
    num_visited = page.evaluate("history.length")
    page.locator("#jobs-filter").get_by_role("button", name="Paused").click()
    with page.expect_request(asks_for_both):
        page.locator("#runs-filter").get_by_role("button", name="Failed or stopped").click()
    expect(page).to_have_url(f"{reader.url}/ui?jobs=paused&runs=failed")
    with page.expect_request(asks_for_both):
        page.reload()
    expect(page.locator("#jobs-filter [aria-pressed=true]")).to_have_text("Paused")
    expect(page.locator("#runs-filter [aria-pressed=true]")).to_have_text("Failed or stopped")
    expect(page.locator("#jobs-empty")).to_have_text("No jobs in this state.")
    page.locator("#jobs-filter").get_by_role("button", name="All").click()
    expect(page).to_have_url(f"{reader.url}/ui?runs=failed")
    expect(page.locator("#jobs-filter").get_by_role("button", name="All")).to_be_focused()
    assert page.evaluate("history.length") == num_visited  # back leads where it led before


def test_chips_that_are_drawn_again_keep_the_focus(reader: Reader) -> None:
    page = reader.open("/ui")
    expect(page.locator("#main:not([aria-busy])")).to_be_visible()
    focused = page.evaluate(_FOCUS_THROUGH_REDRAWS)
    assert focused == ["rare", "", "BODY"]


def test_what_is_not_offered_is_not_chosen(reader: Reader, http: httpx2.Client) -> None:
    job = submit(http, model=IDLE_MODEL, input={"rows": rows(1)})
    page = reader.open("/ui?" + urlencode({"jobs": EVIL, "runs": EVIL}))
    for name in ("jobs", "runs"):
        expect(page.locator(f"#{name}-filter [aria-pressed=true]")).to_have_text("All")
    expect(page.locator("#jobs tbody tr").first).to_contain_text(IDLE_MODEL)
    reader.open(f"/ui/jobs/{job['id']}?" + urlencode({"rows": EVIL, "lines": EVIL}))
    expect(page.locator("#rows-filter [aria-pressed=true]")).to_have_text("All")
    expect(page.locator("#rows")).to_have_text("No rows have landed yet.")
    http.post(f"/v1/jobs/{job['id']}/cancel")


def test_what_an_address_says_is_only_ever_text(reader: Reader, http: httpx2.Client) -> None:
    idle = {**endless(), "defaults": {"model": IDLE_MODEL}}
    body = {"workflow": idle, "inputs": {"texts": {"rows": texts(1)}}}
    run_id = http.post("/v1/workflows/runs", json=body).json()["id"]
    page = reader.open(
        f"/ui/runs/{run_id}?" + urlencode({"rows": EVIL, "errors": EVIL, "row": EVIL})
    )
    expect(page.locator("#rows-filter [aria-pressed=true]")).to_have_text("Output")
    expect(page.locator("#faults-filter [aria-pressed=true]")).to_have_text(EVIL)
    expect(page.locator("#history")).to_contain_text("has no row")
    assert page.locator("img").count() == 1  # the one in the bar
    assert page.evaluate("document.body.dataset.hacked") is None
    page.locator("#faults-filter").get_by_role("button", name="All").click()
    expect(page).not_to_have_url(re.compile("errors="))
    reader.open(f"/ui/runs/{run_id}?" + urlencode({"errors": "x" * 1500}))
    expect(page.locator("#faults-filter [aria-pressed=true]")).to_be_visible()
    reader.check_fits()
    reader.open(f"/ui/runs/{run_id}?" + urlencode({"errors": "x" * 2001}))
    expect(page.locator("#main:not([aria-busy])")).to_be_visible()
    expect(page.locator("#faults-filter button")).to_have_count(0)  # too long to be looked for
    http.post(f"/v1/workflows/runs/{run_id}/cancel")
    http.get(f"/v1/workflows/runs/{run_id}", params={"wait": 30})
