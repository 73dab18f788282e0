"""Errors of one code alone: over HTTP, from Python, and on the command line."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from penstock import Client, Job

from .command import Penstock
from .conftest import MODEL, Stack
from .scripted import connect, job_json, page, script

FAILING = "engine_error"


@pytest.fixture(scope="module")
def job(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """Of five hundred rows in several parts, the last three fail, and others in another way."""
    texts = [{"text": "fine"}] * 300 + [{"text": None}] * 197 + [{"text": "[[fail]]"}] * 3
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in texts) + "no json\n")
    with Client(stack.url) as client:
        yield client.jobs.submit(file, model=MODEL, prompt="{{ row.text }}").wait(timeout_s=60)


def test_a_list_holds_those_of_one_code(http: httpx2.Client, job: Job) -> None:
    codes = job.record.errors_by_code
    assert codes[FAILING] == 3, codes

    def told(**params: Any) -> tuple[list[int], bool]:
        answer = http.get(f"/v1/jobs/{job.id}/errors", params=params).json()
        told = [each.get("row_index", each.get("line")) for each in answer["data"]]
        return told, answer["has_more"]

    assert told(code=FAILING) == ([497, 498, 499], False)
    assert told(code=FAILING, limit=2) == ([497, 498], True)
    assert told(code=FAILING, limit=3) == ([497, 498, 499], False)
    assert told(code="rejected_line") == ([501], False)
    assert told(code="no_such_code") == ([], False)
    assert told(limit=2) == ([501, 300, 301], True)
    refused = http.get(f"/v1/jobs/{job.id}/errors", params={"code": "x" * 101})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "code")


def test_python_and_the_command_line_ask_for_them(
    penstock: Penstock, stack: Stack, job: Job
) -> None:
    assert [error["row_index"] for error in job.errors(code=FAILING)] == [497, 498, 499]
    at = ("errors", job.id, "--url", stack.url)
    run = penstock(*at, "--code", FAILING)
    assert [line["row_index"] for line in run.lines] == [497, 498, 499]
    assert [line["line"] for line in penstock(*at, "--code", "rejected_line").lines] == [501]
    table = penstock(*at, "--code", FAILING, "-o", "table")
    assert len(table.out.splitlines()) == 1 + 3
    assert "more" not in table.err
    none = penstock(*at, "--code", "nope")
    assert (none.code, none.out) == (0, "")
    assert "no error of the code 'nope'; 201 errors in all: " in none.err
    assert none.err.count(f"{FAILING} 3") == none.err.count("rejected_line 1") == 1
    lines = penstock(*at, "--code", "rejected_line", "-o", "table")
    assert "rejected_line" in lines.out
    retried = penstock("retry", job.id, "--url", stack.url, "--code", "rejected_line")
    assert (retried.code, "submit them again" in retried.err) == (2, True)
    refused = penstock(*at, "--step", "judge")
    assert (refused.code, "--step is for runs" in refused.err) == (2, True)


def test_every_sample_of_a_row_that_failed_is_told(http: httpx2.Client, stack: Stack) -> None:
    rows = [{"text": text} for text in ("[[fail]]", "fine", "[[fail]]")]
    with Client(stack.url) as client:
        three = {"n": 3}
        job = client.jobs.submit(rows, model=MODEL, prompt="{{ row.text }}", sampling=three)
        job.wait(timeout_s=60)
        told = [(error["row_index"], error["sample_index"]) for error in job.errors()]
        assert told == [(row, sample) for row in (0, 2) for sample in range(3)]
        assert len(job.errors(code=FAILING)) == len(told)
    path = f"/v1/jobs/{job.id}/errors"
    few = http.get(path, params={"limit": 4}).json()
    assert (len(few["data"]), few["has_more"]) == (4, True)


def test_what_comes_behind_the_first_list_is_of_the_code_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.api.job_errors._AT_ONCE", 2)
    failed = [{"row_index": n, "error": {"code": "ab"[n % 2]}} for n in range(6)]
    handler, calls = script(
        httpx2.Response(200, json=job_json("completed_with_errors")),
        httpx2.Response(200, json={"data": [failed[0], failed[2]], "has_more": True}),
        page(*failed[:3], after="c1"),
        page(*failed[3:], after=None),
    )
    assert connect(handler).jobs.get("job_1").errors(code="a") == failed[::2]
    assert calls[1].url.params["code"] == "a"
