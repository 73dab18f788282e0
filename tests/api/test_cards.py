"""Cards of jobs, runs and clients in a notebook: what they say, and that they say it harmlessly."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from penstock.api.async_client import AsyncClient
from penstock.api.cards import job_card, run_card
from penstock.api.client import Client, Job
from penstock.api.connection import Connection
from penstock.api.eta import Eta
from penstock.api.records import JobRecord
from penstock.api.validation_record import JobValidation
from penstock.api.workflow_records import RunRecord
from penstock.api.workflow_run import WorkflowRun
from tests.browser import open_browser

from .scripted import connect, job_json, script

HOSTILE = """<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>"""
HOSTILE += """'"><svg/onload=document.title='taken'>{{ 7*7 }}</td></table></div><b>&amp;"""


def job(status: str = "running", **changes: Any) -> JobRecord:
    return JobRecord.from_json(job_json(status, **changes))


def run(**changes: Any) -> RunRecord:
    data: dict[str, Any] = {
        "id": "run_1",
        "status": "running",
        "workflow": "judge",
        "counts": {"input": 100, "output": 7, "rejected": 1},
        "usage": {"prompt_tokens": 9000, "completion_tokens": 1200},
        "steps": [
            {
                "id": "draft",
                "type": "generate",
                "state": "completed",
                "rows": {"in": 100, "out": 98, "failed": 2},
                "shards": {"done": 2, "total": 2},
                "usage": {"completion_tokens": 1200},
                "errors_by_code": {"invalid_output": 2},
            },
            {"id": "score", "type": "judge", "state": "running", "rows": {"in": 98, "out": 7}},
        ],
    }
    return RunRecord.from_json(data | changes)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(60_000)
    yield page
    page.close()


def text_of(html: str) -> str:
    """What a card says, with its spaces put in order."""
    words: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            words.append(data)

    Reader().feed(html)
    return re.sub(r"\s+", " ", " ".join(words)).strip()


def test_a_jobs_card_says_where_it_stands() -> None:
    counts = {"total": 1000, "succeeded": 700, "failed": 20, "rejected": 3}
    record = job(counts=counts, name="tickets", errors_by_code={"invalid_output": 20})
    said = text_of(job_card(record, Eta(60.0, 90.0)))
    for words in (
        "tickets",
        "running",
        "job_1",
        "720 of 1,000",
        "failed 20",
        "rejected 3",
        "errors invalid_output 20",
        "1.5 rows/s · 300 tok/s",
        "time left 1m 00s-1m 30s",
        "10 read, 20 written",
        "model m",
    ):
        assert words in said
    assert "rows are in" not in said
    ended = text_of(job_card(job("completed", finished_at=1_700_000_063)))
    assert "rows are in /nowhere/job_1" in ended
    assert "took 1m 02s" in ended
    assert "time left" not in ended


def test_a_runs_card_has_a_line_for_each_step() -> None:
    said = text_of(run_card(run()))
    assert "judge" in said
    assert "draft 100 98 2 1.2k 2/2 invalid_output 2" in said
    assert "score 98 7 0/?" in said
    assert "100 in, 7 out" in said


def test_objects_have_their_cards(capsys: pytest.CaptureFixture[str]) -> None:
    handler, _ = script()
    with connect(handler) as client:
        assert Job(client, job())._repr_html_() == job_card(job())
        assert WorkflowRun(client, run())._repr_html_() == run_card(run())


def test_a_dry_run_shows_itself_with_what_is_wrong_and_in_doubt() -> None:
    raw = {
        "model": "m",
        "ok": False,
        "rows": 23,
        "complete": True,
        "bad_lines": {"count": 1, "errors": [{"line": 22, "message": "is <not> JSON"}]},
        "warnings": ["the template names no column"],
    }
    card = JobValidation.from_json(raw)._repr_html_()
    said = text_of(card)
    for words in ("dry run", "see below", "rows 23", "bad lines 1", "line 22 is <not> JSON"):
        assert words in said
    assert "<not>" not in card
    assert "warning: the template names no column" in said
    assert "dry run ok" in text_of(JobValidation.from_json({"ok": True})._repr_html_())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_shows_where_it_goes_and_never_its_key(kind: type[Any]) -> None:
    client = kind("http://host:8100", "sk-secret")
    assert repr(client) == f"<{kind.__name__} http://host:8100>"
    said = text_of(client._repr_html_())
    assert said == f"{kind.__name__} server http://host:8100 key given"
    assert "sk-secret" not in client._repr_html_() + repr(client) + str(vars(client).keys())
    assert "key none" in text_of(kind("http://host:8100")._repr_html_())


def test_nothing_that_anybody_says_is_taken_for_html(page: Page) -> None:
    said: dict[str, Any] = dict.fromkeys(("id", "name", "model", "error", "status_reason"), HOSTILE)
    codes = {HOSTILE: 2}
    output = {"path": HOSTILE}
    steps = [{"id": HOSTILE, "type": HOSTILE, "state": HOSTILE, "errors_by_code": codes}]
    handler, _ = script()
    connection: Connection = connect(handler)
    connection_card = Client("http://host/" + HOSTILE.replace(" ", ""))._repr_html_()
    cards = [
        Job(connection, job("failed", errors_by_code=codes, output=output, **said))._repr_html_(),
        run_card(run(workflow=HOSTILE, steps=steps, output=output, **said)),
        connection_card,
    ]
    page.set_content(f"<title>safe</title>{''.join(cards)}")
    page.wait_for_load_state("networkidle")
    assert page.title() == "safe"
    assert page.locator("img, script, svg, .penstock-card b b").count() == 0
    assert page.locator("body > .penstock-card").count() == 3
    assert HOSTILE in page.locator("body").inner_text()


@pytest.mark.parametrize(("paper", "ink"), [("#ffffff", "#111111"), ("#111111", "#eeeeee")])
def test_reads_on_light_pages_and_on_dark_ones(page: Page, paper: str, ink: str) -> None:
    """All text has the page's own colour, on the page's own ground."""
    cards = job_card(job(name="tickets")) + run_card(run())
    page.set_content(f'<body><div style="background:{paper};color:{ink}">{cards}</div></body>')
    colours = page.evaluate(
        """() => [...document.querySelectorAll('.penstock-card *, .penstock-card')]
            .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
            .map(e => getComputedStyle(e)).map(s => s.color + ' on ' + s.backgroundColor)"""
    )
    red, green, blue = (int(ink[at : at + 2], 16) for at in (1, 3, 5))
    assert set(colours) == {f"rgb({red}, {green}, {blue}) on rgba(0, 0, 0, 0)"}


def test_loads_nothing(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(job_card(job("completed")) + run_card(run()))
    page.wait_for_load_state("networkidle")
    assert asked == []
    assert "completed" in page.locator(".penstock-card").first.inner_text()
