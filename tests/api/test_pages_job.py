"""The page of a job, as a reader sees it: live, to be steered, and safe from what jobs say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Request, expect

from tests.browser import open_browser

from .conftest import IDLE_MODEL, MODEL, Stack
from .page_reader import Reader, reading
from .plain_jobs import TASK, jsonl, rows, submit, three_shards, wait

EVIL = "<img src=x onerror=\"document.body.dataset.hacked='1'\"><script>alert(1)</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def reader(browser: Browser, stack: Stack) -> Iterator[Reader]:
    with reading(browser, stack.url) as reader:
        yield reader


@pytest.fixture(scope="module")
def finished(stack: Stack) -> dict[str, Any]:
    with stack.http() as http:
        return three_shards(http)


def failing(count: int, failed: int) -> list[dict[str, str]]:
    return [{"text": "[[fail]]" if n < failed else f"t{n}", "key": f"k{n}"} for n in range(count)]


def test_a_job_is_followed_live_to_its_end(reader: Reader, http: httpx2.Client) -> None:
    """It pauses by itself, is resumed with the button, ends with errors, and is retried."""
    job = submit(http, input={"rows": failing(1000, 128)}, id="key", max_error_rate=0.05)
    page = reader.open(f"/ui/jobs/{job['id']}")
    state, facts = page.locator("#state"), page.locator("#facts")
    expect(state).to_have_text("paused")
    assert http.get(f"/v1/jobs/{job['id']}").json()["counts"]["succeeded"] < 872
    reader.mark()
    expect(page.locator("#problem")).to_contain_text("error_rate")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(state).to_have_text("completed with errors")
    expect(facts).to_contain_text("1,000 of 1,000")
    expect(page.locator("#bar [role=progressbar]")).to_have_attribute("aria-valuenow", "100")
    expect(page).to_have_title(re.compile("^100 %"))
    expect(page.locator("#errors")).to_contain_text("engine_error")
    expect(page.locator("#errors dd")).to_have_text("128")
    expect(page.locator("#makers dd")).to_have_text("1,000")
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    reader.check_not_reloaded()
    page.locator("#acts").get_by_role("button", name="Retry failed rows").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry failed rows").click()
    page.wait_for_url(lambda url: "/ui/jobs/job_" in url and job["id"] not in url)
    expect(page.locator("#about").get_by_role("link", name=job["id"])).to_be_visible()
    wait(http, page.url.rpartition("/")[2])
    expect(state).to_have_text("completed with errors")
    expect(page.locator("#links")).to_contain_text("The manifest")  # what is offered stands by then
    expect(page.get_by_role("button", name="Retry failed rows")).to_be_hidden()  # of no retry
    expect(page.locator("#subtitle").get_by_role("link", name=job["id"])).to_be_visible()


def test_a_running_job_shows_how_far_it_is_and_is_cancelled(
    reader: Reader, http: httpx2.Client
) -> None:
    endless = [*rows(130), {"key": "k", "text": "[[long]]"}]
    job = submit(http, input={"rows": endless}, name="endless")
    page = reader.open("/ui")
    line = page.locator("#jobs tbody tr", has_text="endless").first
    expect(line).to_contain_text("97 % of 131")
    line.get_by_role("link").click()
    expect(page.locator("#facts")).to_contain_text("128 of 131")
    expect(page.locator("#bar .running")).not_to_have_attribute("width", "0.00")
    cancel = page.locator("#acts").get_by_role("button", name="Cancel job")
    cancel.click()
    page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    assert http.get(f"/v1/jobs/{job['id']}").json()["status"] == "running"
    cancel.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Cancel job").press("Enter")
    expect(page.locator("#state")).to_have_text("cancelled")
    assert wait(http, job["id"])["status"] == "cancelled"


def test_plots_tell_what_the_timeline_tells(
    reader: Reader, http: httpx2.Client, finished: dict[str, Any]
) -> None:
    page = reader.open(f"/ui/jobs/{finished['id']}")
    told = http.get(f"/v1/jobs/{finished['id']}/timeline", params={"points": 40}).json()
    points = told["points"]
    for name in ("tokens", "rows", "latency"):
        plot = page.locator(f"#{name}-plot svg")
        expect(plot).to_have_attribute("data-points", str(len(points)))
    moving = [point for point in points if point["rows"]]
    expect(page.locator("#rows-plot .column")).to_have_count(len(moving))
    plot = page.locator("#rows-plot svg")
    plot.focus()
    for point in points[:5]:
        page.keyboard.press("ArrowRight")
        module = "import('/ui/assets/format.js').then(({ brief }) => brief(%r))"
        speed = page.evaluate(module % point["rows_per_s"])
        expect(page.locator("#rows-plot .told")).to_contain_text(f"{speed} rows/s")
    latency = page.locator("#latency-plot svg")
    width = latency.evaluate("node => node.clientWidth")
    latency.hover(position={"x": width - 15, "y": 60})  # wherever it stands by then
    expect(page.locator("#latency-plot .told")).to_contain_text("median")
    page.mouse.move(0, 0)
    expect(page.locator("#latency-plot .told")).to_be_hidden()
    page.reload()  # history is not the tab's memory
    expect(plot).to_have_attribute("data-points", str(len(points)))


def test_rows_are_opened_filtered_and_paged(reader: Reader, http: httpx2.Client) -> None:
    mixed = [
        {"key": f"k{n}", "text": "[[fail]]" if n % 40 == 7 else f"t{n}", "note": None}
        for n in range(100)
    ]
    job = wait(http, submit(http, input={"rows": mixed}, id="key")["id"])
    page = reader.open(f"/ui/jobs/{job['id']}")
    lines = page.locator("#rows details")
    expect(lines).to_have_count(15)
    expect(lines.first).to_be_visible()  # before that, nothing on the page can be pressed
    lines.first.locator("summary").press("Enter")
    expect(lines.first.locator(".pairs")).to_contain_text("row.text")
    expect(lines.first.locator(".pairs")).to_contain_text("t0")
    expect(lines.first.locator(".pairs")).to_contain_text("row.notenull")  # a name and its value
    page.get_by_role("button", name="Next →").last.click()
    expect(lines.first).to_contain_text("k15")
    page.get_by_role("button", name="← Previous").last.click()
    expect(lines.first).to_contain_text("k0")
    page.locator("#rows-filter").get_by_role("button", name="Failed").click()
    expect(lines).to_have_count(3)
    expect(lines.first).to_contain_text("engine_error: the prompt asked for it")
    expect(page).to_have_url(re.compile(r"\?rows=failed$"))
    page.reload()
    expect(lines).to_have_count(3)
    expect(page.locator("#task")).to_contain_text("Say {{ row.text }}")
    with page.expect_download() as download:
        page.get_by_role("button", name="All rows, as JSON lines").click()
    saved = Path(download.value.path()).read_text().splitlines()
    assert [json.loads(line)["custom_id"] for line in saved] == [f"k{n}" for n in range(100)]


def test_lines_that_are_no_rows_are_told(reader: Reader, http: httpx2.Client) -> None:
    lines = jsonl(rows(3)) + b"no row at all\n"
    of_documents = {**TASK, "response_format": {"type": "json_object"}}
    answer = http.post(
        "/v1/jobs",
        data={"request": json.dumps(of_documents)},
        files={"file": ("rows.jsonl", lines)},
    )
    job = wait(http, answer.json()["id"])
    page = reader.open(f"/ui/jobs/{job['id']}")
    expect(page.locator("#facts")).to_contain_text("1 line refused, 3 rows unparsed")
    page.get_by_text("1 line could not become rows").click()
    expect(page.locator("#rejected li")).to_have_text(re.compile("^line 4: .*JSON"))
    page.reload()  # what was unfolded still is
    expect(page.locator("#rejected li")).to_be_visible()


def test_what_jobs_say_is_only_ever_text(reader: Reader, http: httpx2.Client) -> None:
    hostile = [{"key": EVIL, "text": f"[[say]]{EVIL}", EVIL[:30]: EVIL}]
    job = submit(http, input={"rows": hostile}, id="key", name=EVIL, prompt="{{ row.text }}" + EVIL)
    wait(http, job["id"])
    page = reader.open("/ui")
    expect(page.locator("#jobs tbody tr").first.get_by_role("link")).to_have_text(EVIL)
    page.locator("#jobs tbody tr").first.get_by_role("link").click()
    expect(page.locator("#name")).to_have_text(EVIL)
    page.locator("#rows details summary").click()
    expect(page.locator("#rows .pairs pre").last).to_contain_text("onerror")
    expect(page.locator("#task pre").first).to_contain_text(EVIL)
    assert page.locator("img").count() == 1  # the one in the bar
    assert page.locator("script").count() == 1
    assert page.evaluate("document.body.dataset.hacked") is None


def test_a_page_that_nobody_looks_at_holds_no_connection(
    reader: Reader, http: httpx2.Client
) -> None:
    """A browser has six to one server, for all its tabs together."""
    job = submit(http, model=IDLE_MODEL, input={"rows": rows(1)})

    def is_stream(request: Request) -> bool:
        return request.url.endswith("/events")

    def look(is_hidden: bool) -> None:
        hidden = f"{{ value: {str(is_hidden).lower()}, configurable: true }}"
        reader.page.evaluate(f"Object.defineProperty(document, 'hidden', {hidden})")
        reader.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    with reader.page.expect_response(lambda answer: answer.url.endswith("/events")):
        page = reader.open(f"/ui/jobs/{job['id']}")
    expect(page.locator("#state")).to_have_text("queued")
    with page.expect_event("requestfailed", is_stream):
        look(is_hidden=True)
    expect(page.locator("#live")).to_have_text("live")
    with page.expect_request(is_stream):
        look(is_hidden=False)
    http.post(f"/v1/jobs/{job['id']}/cancel")
    expect(page.locator("#state")).to_have_text("cancelled")


def test_of_an_unknown_job_the_page_says_so(reader: Reader) -> None:
    page = reader.open("/ui/jobs/job_00000000000000000000000000")
    expect(page.locator("#name")).to_have_text("There is no such job")
    expect(page.locator("#problem")).to_contain_text("job_0000")
    expect(page.locator("#main section:visible, .note:visible")).to_have_count(0)
    expect(page.get_by_role("link", name="All jobs and runs")).to_be_visible()


def test_nothing_is_wider_than_the_screen(
    reader: Reader, finished: dict[str, Any], tmp_path: Path
) -> None:
    page = reader.open("/ui")
    expect(page.locator("#workers tbody tr")).to_contain_text(MODEL)
    expect(page.locator("#queues tbody tr").first).to_be_visible()
    expect(page.locator("#tile-workers")).to_have_text("1")
    reader.check_fits_everywhere(tmp_path, "overview")
    page = reader.open(f"/ui/jobs/{finished['id']}")
    expect(page.locator("#rows details")).to_have_count(15)
    page.locator("#rows details summary").first.click()
    reader.check_fits_everywhere(tmp_path, "job")


def test_jobs_are_chosen_by_state_and_paged(reader: Reader, http: httpx2.Client) -> None:
    made = [submit(http, input={"rows": rows(1)}, name=f"small {n}") for n in range(14)]
    for job in made:
        wait(http, job["id"])
    page = reader.open("/ui")
    lines = page.locator("#jobs tbody tr")
    expect(lines).to_have_count(12)
    expect(lines.first).to_contain_text("small 13")
    page.route("**/v1/overview/events?*", lambda route: route.abort())
    forth = page.locator("#jobs-paging").get_by_role("button", name="Next →")
    with page.expect_event("requestfailed", lambda asked: "jobs_after=" in asked.url):
        forth.click()
    expect(page.locator("#live")).to_have_text("disconnected")
    expect(page.locator("#jobs-paging")).to_contain_text("page 1")  # whose rows are there still
    expect(forth).to_be_enabled()
    page.unroute("**/v1/overview/events?*")
    expect(page.locator("#jobs-paging")).to_contain_text("page 2")
    expect(lines.first).not_to_contain_text("small 13")
    page.locator("#jobs-filter").get_by_role("button", name="Paused").click()
    expect(page.locator("#jobs-empty")).to_have_text("No jobs in this state.")
    page.locator("#jobs-filter").get_by_role("button", name="Completed").click()
    expect(lines.first).to_contain_text("small 13")
