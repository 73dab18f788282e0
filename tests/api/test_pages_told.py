"""What a page of a job tells beside its progress, in the reader's own time and in any script."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser import open_browser

from .conftest import IDLE_MODEL, Stack
from .page_reader import Reader, reading
from .plain_jobs import rows, submit

TOKYO = timezone(timedelta(hours=9))
NAMES = ["مهمة تصنيف النصوص (2)", "x" * 200, "👩‍👩‍👧‍👦 שלום"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def reader(browser: Browser, stack: Stack) -> Iterator[Reader]:
    with reading(browser, stack.url, locale="de-DE", timezone_id="Asia/Tokyo") as reader:
        yield reader


@pytest.fixture
def waiting(http: httpx2.Client) -> Iterator[dict[str, Any]]:
    """A job that nobody serves."""
    job = submit(
        http,
        model=IDLE_MODEL,
        input={"rows": rows(70)},
        metadata={"team": "a"},
        max_error_rate=0.05,
    )
    yield job
    http.post(f"/v1/jobs/{job['id']}/cancel")


def answer_with(reader: Reader, path: str, **changed: object) -> None:
    """Let an answer of the server's say something else in places."""

    def answer(route: Route) -> None:
        told = route.fetch()
        route.fulfill(response=told, json={**told.json(), **changed})

    reader.page.route(path, answer)


def test_a_job_tells_all_that_is_known_of_it(reader: Reader, waiting: dict[str, Any]) -> None:
    page = reader.open(f"/ui/jobs/{waiting['id']}")
    about = page.locator("#about")
    for words in ("team: a", "more than 5 %", "0 of 2 have landed", "default"):
        expect(about).to_contain_text(words)
    expect(about).to_contain_text(waiting["output"]["path"])
    expect(page.locator("#waits")).to_contain_text(f"penstock worker --model {IDLE_MODEL}")
    expect(page.locator("#announced")).to_have_text("queued, 0 % of the rows are done")
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel job").click()
    expect(page.locator("#waits")).to_be_empty()
    expect(page.locator("#announced")).to_have_text("cancelled, 0 % of the rows are done")
    page.get_by_role("button", name="Run the other rows").click()
    page.get_by_role("dialog").get_by_role("button", name="Run the other rows").click()
    page.wait_for_url(lambda url: "/ui/jobs/job_" in url and waiting["id"] not in url)
    expect(page.locator("#facts")).to_contain_text("0 of 70")
    expect(page.get_by_role("button", name="Cancel job")).to_be_visible()
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel job").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Run the other rows")).to_be_hidden()  # of no retry


def test_rows_landed_in_flight_and_to_come_add_up(reader: Reader, waiting: dict[str, Any]) -> None:
    counts = {**waiting["counts"], "total": 400, "succeeded": 128, "failed": 16}
    counts |= {"running": 128, "pending": 128}
    answer_with(reader, f"**/v1/jobs/{waiting['id']}", status="running", counts=counts)
    page = reader.open(f"/ui/jobs/{waiting['id']}")
    facts = page.locator("#facts > div")
    expect(facts.first).to_have_text("Rows144 of 40036 %")
    expect(facts.filter(has_text="In flight")).to_have_text("In flight128128 rows to come")
    expect(page.locator("#bar .running")).to_have_attribute("width", "320.00")  # of 1000


def test_times_are_the_readers_and_in_utc_where_one_points(
    reader: Reader, waiting: dict[str, Any]
) -> None:
    page = reader.open(f"/ui/jobs/{waiting['id']}")
    created = page.locator("#about time").first
    there = datetime.fromtimestamp(waiting["created_at"], TOKYO)
    expect(created).to_have_text(f"{there:%d.%m.%Y, %H:%M:%S}")
    utc = f"{there.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    expect(created).to_have_attribute("title", utc)
    assert str(page.locator("#subtitle time").get_attribute("title")).endswith(f" · {utc}")


def test_errors_of_all_codes_can_be_seen(reader: Reader, waiting: dict[str, Any]) -> None:
    codes = {f"code_{number}": number for number in range(1, 31)}
    answer_with(reader, f"**/v1/jobs/{waiting['id']}", errors_by_code=codes)
    page = reader.open(f"/ui/jobs/{waiting['id']}")
    names = page.locator("#errors dt")
    expect(names).to_have_count(13)
    expect(names.last).to_have_text("18 others")
    expect(page.locator("#errors dd").last).to_have_text(f"{sum(range(1, 19))}")
    page.get_by_role("button", name="Show all 30").click()
    expect(names).to_have_count(30)
    expect(names.last).to_have_text("code_1")


@pytest.mark.parametrize(
    ("band", "words"),
    [
        ({"estimate_s": 49.0, "low_s": 14.0, "high_s": 70.0}, "49 sbetween 14 s and 1 min 10 s"),
        ({"estimate_s": 49.0, "low_s": 49.0, "high_s": 49.2}, "49 s"),
        ({"estimate_s": None, "low_s": 14.0, "high_s": 70.0}, "50 s"),
    ],
)
def test_the_time_left_is_told_with_its_band(
    reader: Reader, waiting: dict[str, Any], band: dict[str, float | None], words: str
) -> None:
    path = f"/v1/jobs/{waiting['id']}"
    answer_with(reader, f"**{path}", eta_s=50.0)
    answer_with(reader, f"**{path}/timeline?*", eta=band)
    with reader.page.expect_response(lambda answer: "/timeline?" in answer.url):
        page = reader.open(f"/ui/jobs/{waiting['id']}")
    for _ in range(2):  # by the second, what came before it is shown
        with page.expect_response(lambda answer: answer.url.endswith(path)):
            pass
    expect(page.locator("#facts > div", has_text="Time left")).to_have_text(f"Time left{words}")


def test_a_time_is_told_in_its_two_largest_units(reader: Reader) -> None:
    told = {0.9996: "1.0 s", 59.6: "1 min", 192: "3 min 12 s", 7199: "2 h", 172_799: "2 d"}
    page = reader.open("/ui/nothing")
    module = "import('/ui/assets/format.js').then(({ duration }) => %s.map(duration))"
    words = page.evaluate(module % list(told))
    assert words == [each.replace(" ", "\u00a0") for each in told.values()]  # on one line


def test_why_something_was_refused_stays_to_be_read(
    reader: Reader, waiting: dict[str, Any]
) -> None:
    def refuse(route: Route) -> None:
        route.fulfill(status=409, json={"error": {"message": "not now", "code": "busy"}})

    path = f"/v1/jobs/{waiting['id']}"
    page = reader.open(f"/ui/jobs/{waiting['id']}")
    page.route(f"**{path}/pause", refuse)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.locator("#refusal")).to_have_text("not now")
    for _ in range(2):
        with page.expect_response(lambda answer: answer.url.endswith(path)):
            pass
    expect(page.locator("#refusal")).to_have_text("not now")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_any_script_stays_in_its_place(
    reader: Reader, http: httpx2.Client, name: str
) -> None:
    job = submit(http, model=IDLE_MODEL, input={"rows": rows(1)}, name=name)
    http.post(f"/v1/jobs/{job['id']}/cancel")
    page = reader.open("/ui")
    line = page.locator("#jobs tbody tr", has_text=name).first
    link, cell = line.get_by_role("link").bounding_box(), line.locator("td").first.bounding_box()
    assert link is not None and cell is not None
    assert link["height"] < 60
    assert cell["x"] <= link["x"] <= cell["x"] + 20
    reader.check_fits()
    page.goto(f"{reader.url}/ui/jobs/{job['id']}")
    expect(page.locator("#name")).to_have_text(name)
    assert page.locator("#name").evaluate("node => getComputedStyle(node).textAlign") == "left"
    reader.check_fits()
