"""`penstock errors`: a pipe gets all as it comes, and a terminal no more than can be read."""

from typing import Any

import httpx2
import pytest

from penstock.api import cli_results, cli_steering, job_errors

from .command import Penstock
from .scripted import connect, job_json, page, refusal, script

JOB = "job_01K3ZZZZZZZZZZZZZZZZ4K2J9Q"


def failed(first: int, behind: int) -> list[dict[str, Any]]:
    error = {"code": "prompt_too_long", "message": "no"}
    return [
        {"row_index": row, "custom_id": None, "sample_index": 0, "error": error}
        for row in range(first, behind)
    ]


def job(num_failed: int) -> httpx2.Response:
    counts = {"total": num_failed, "failed": num_failed, "rejected": 1}
    return httpx2.Response(200, json=job_json("completed_with_errors", id=JOB, counts=counts))


def answering(monkeypatch: pytest.MonkeyPatch, *answers: httpx2.Response) -> list[httpx2.Request]:
    handler, calls = script(*answers)
    monkeypatch.setattr(cli_results, "open_client", lambda *_: connect(handler))
    return calls


def test_a_pipe_gets_them_as_they_come(penstock: Penstock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_errors, "_AT_ONCE", 2)
    answering(
        monkeypatch,
        job(num_failed=6),
        httpx2.Response(200, json={"data": failed(0, 2), "has_more": True}),
        page(*failed(0, 2), after="c1"),
        page(*failed(2, 4), after="c2"),
        refusal(404, message="it was deleted just now"),
    )
    told = penstock("errors", JOB, "-o", "json")
    assert told.lines == failed(0, 4)
    assert told.code == 1
    assert "it was deleted just now" in told.err


@pytest.mark.parametrize(("num_failed", "more"), [(10_050, "9,951"), (100, "1"), (99, None)])
def test_a_terminal_gets_the_first_and_how_many_more(
    penstock: Penstock, monkeypatch: pytest.MonkeyPatch, num_failed: int, more: str | None
) -> None:
    told_at_once = [{"line": 3, "message": "no JSON"}, *failed(0, min(num_failed, 100))]
    data = {"data": told_at_once, "has_more": True}
    calls = answering(monkeypatch, job(num_failed), httpx2.Response(200, json=data))
    told = penstock("errors", JOB, "-o", "table")
    assert len(told.out.splitlines()) == 1 + 100
    assert calls[-1].url.params["limit"] == "100"
    note = f"… and {more} more: a pipe, or -o json, gets them all"
    assert (note in told.err) == (more is not None)


@pytest.mark.parametrize(("failed", "is_told"), [(0, True), (1, False)])
def test_answers_that_are_no_json_are_told_of_where_nothing_failed(
    penstock: Penstock, monkeypatch: pytest.MonkeyPatch, failed: int, is_told: bool
) -> None:
    counts = {"total": 4, "succeeded": 4 - failed, "failed": failed, "rejected": 0, "unparsed": 2}
    ended = httpx2.Response(200, json=job_json("completed", id=JOB, counts=counts))
    answering(monkeypatch, ended, httpx2.Response(200, json={"data": [], "has_more": False}))
    told = penstock("errors", JOB, "-o", "table")
    words = "2 answers could not be read as JSON: a larger max_tokens may help"
    assert (words in told.err) == is_told
    handler, _ = script(refusal(400, message="has no row to retry"), ended)
    monkeypatch.setattr(cli_steering, "open_client", lambda *_, **__: connect(handler))
    told = penstock("retry", JOB)
    assert (told.code, words in told.err, "no row to retry" in told.err) == (2, is_told, True)
