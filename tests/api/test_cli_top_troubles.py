"""`penstock top` where something is wrong: what passes is borne and told, what does not ends it."""

import io
from typing import Any

import httpx2
import pytest
from rich.console import Console

from penstock.api import cli_top
from penstock.api.cli_output import Printer
from penstock.api.cli_top import Eye
from penstock.api.client import Client
from penstock.api.client_errors import ServerUnreachable, Unauthorized, UnexpectedAnswer
from penstock.api.top_view import TopView

from .scripted import connect, job_json, refusal

HTML = httpx2.Response(200, html="<html>Sign in</html>")
NOTHING = {"object": "list", "data": [], "has_more": False}


def listing(*items: Any) -> httpx2.Response:
    return httpx2.Response(200, json={**NOTHING, "data": list(items)})


def server(**lists: httpx2.Response) -> Client:
    """Answer with these lists, by the last word of their path; all others are empty."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        return lists.get(request.url.path.rpartition("/")[2], listing())

    return connect(handler, max_retries=0)


def eye(client: Client) -> Eye:
    return Eye(client, TopView("http://test", is_live=True))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_no_that_passes_is_told_and_waited_for(status: int) -> None:
    looking = eye(server(jobs=refusal(status, {"retry-after": "7"})))
    assert "trying again in 7s (no (HTTP" in (looking.look().trouble or "")
    assert looking.asked_s == 7
    looking._client = server()
    assert looking.look().trouble is None
    assert looking.asked_s == 0


def test_a_no_that_stays_ends_it() -> None:
    with pytest.raises(Unauthorized):
        eye(server(jobs=refusal(401))).look()


def test_the_pause_that_is_asked_for_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slept(Exception):
        pass

    def sleep(pause_s: float) -> None:
        if pause_s:  # a request that is sent at once pauses for no time
            raise Slept(pause_s)

    monkeypatch.setattr(cli_top.time, "sleep", sleep)
    looking = eye(server(jobs=refusal(429, {"retry-after": "7"})))
    with pytest.raises(Slept, match=r"^7\.0$"):
        cli_top._print_on(Printer(None), looking, 1.0)


def test_a_page_of_a_proxy_is_a_trouble() -> None:
    trouble = eye(server(jobs=HTML)).look().trouble or ""
    assert "http://test answered with something that is no JSON (text/html" in trouble
    assert "is it Penstock?" in trouble


def test_every_call_says_that_a_page_is_no_answer() -> None:
    with pytest.raises(ServerUnreachable, match="is it Penstock"):
        server(jobs=HTML).jobs.list()
    with pytest.raises(ServerUnreachable, match="is it Penstock"):
        server(whoami=HTML, job_1=HTML).jobs.get("job_1")


def test_what_nobody_foresaw_is_raised_and_not_drawn_over() -> None:
    looking = eye(server(jobs=httpx2.Response(200, json={"what": "is this"})))
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    printer = Printer(None)
    printer.out = console
    with pytest.raises(UnexpectedAnswer, match=r"KeyError: 'data'"):
        cli_top._draw_on(printer, looking, 3_600)


def test_a_worker_that_does_not_know_its_rate_yet() -> None:
    workers = listing(
        {"name": "new", "model": "m", "tokens_per_s": None, "running_rows": None},
        {"name": "old", "model": "m", "tokens_per_s": 5.0},
    )
    seen = eye(server(workers=workers)).look().snapshot
    assert seen is not None
    assert [each.name for each in seen.workers] == ["old", "new"]
    assert (seen.tokens_per_s, seen.running_rows) == (5.0, 0)


@pytest.mark.parametrize(("num_jobs", "of"), [(99, "of 99"), (100, "of the latest 100")])
def test_it_says_of_which_jobs_those_are_the_busiest(num_jobs: int, of: str) -> None:
    jobs = listing(*(job_json(id=f"job_{number:026}") for number in range(num_jobs)))
    console = Console(file=io.StringIO(), width=100, height=24, color_system=None)
    with console.capture() as captured:
        console.print(eye(server(jobs=jobs)).look())
    heading = next(line for line in captured.get().splitlines() if "jobs  the" in line)
    assert heading.rstrip().endswith(of)
