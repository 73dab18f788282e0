"""A dry run over HTTP: it tells what a job would come to, and leaves nothing behind."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.api.async_client import AsyncClient
from penstock.api.client import Client
from penstock.api.client_errors import BadRequest
from penstock.jobs.settings import Settings

from .conftest import IDLE_MODEL, MODEL, Stack
from .serving import serving

ROWS = [{"id": "a", "text": "water"}, {"id": "b", "text": "water"}, {"id": "a", "text": "lake"}]
WISH: dict[str, Any] = {
    "prompt": "Say {{ row.text }}",
    "model": MODEL,
    "sampling": {"max_tokens": 5},
    "id": "id",
}
LINES = {"accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def alone(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation where nothing changes but by the test: no worker, and no earlier jobs."""
    data = str(tmp_path_factory.mktemp("alone"))
    settings = replace(stack.settings, data=data, namespace="alone")
    with serving(create_app(settings)) as url:
        yield Stack(url, settings)


def asked(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {**WISH, "input": {"rows": rows}, **changes}


def files_below(settings: Settings) -> set[str]:
    parts = ("jobs", "results", "uploads", "files")
    return {str(path) for part in parts for path in (settings.data_dir / part).rglob("*")}


def test_rows_in_a_request_are_looked_at_and_not_kept(alone: Stack) -> None:
    with alone.http() as http:
        before = files_below(alone.settings), http.get("/v1/jobs").json()["data"]
        answer = http.post("/v1/jobs/validate", json=asked([*ROWS, {"id": "c"}]))
        after = files_below(alone.settings), http.get("/v1/jobs").json()["data"]
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["object"], found["ok"], found["complete"]) == ("job.validation", False, True)
    assert found["rows"] == 4
    [fault] = found["row_errors"]["kinds"]
    assert (fault["code"], fault["lines"]) == ("template_error", [4])
    assert "'text'" in fault["message"]
    assert found["duplicates"]["examples"] == [{"line": 2, "same_as": 1, "id": "b"}]
    assert found["duplicates"]["share"] == 0.25
    assert found["duplicate_ids"]["examples"] == [{"line": 3, "same_as": 1, "id": "a"}]
    assert found["input_tokens"]["total"] == 2 * len("Say water") + len("Say lake")
    assert found["output_tokens"]["at_most"] == 15
    assert after == before == (set(), [])


def test_what_nobody_serves_yet_is_not_held_to_a_context(http: httpx2.Client) -> None:
    body = asked(ROWS, model=IDLE_MODEL, sampling={"max_tokens": 1_000_000})
    assert http.post("/v1/jobs", json=body).status_code == 202


def test_a_prompt_without_columns_is_warned_of_and_taken(http: httpx2.Client) -> None:
    body = asked(ROWS, prompt="Say something.")
    found = http.post("/v1/jobs/validate", json=body).json()
    assert found["ok"]
    assert [text.partition(" (")[0] for text in found["warnings"]] == [
        "the template names no column: all 3 rows get the same prompt"
    ]
    assert http.post("/v1/jobs", json=body).status_code == 202


def test_an_upload_is_looked_at_line_by_line(http: httpx2.Client) -> None:
    lines = b'{"text": "fine"}\nnonsense\n[1]\n{"text": "too"}\n'
    answer = http.post(
        "/v1/jobs/validate",
        data={"request": json.dumps({**WISH, "id": None})},
        files={"file": ("rows.jsonl", lines)},
    )
    bad = answer.json()["bad_lines"]
    assert (answer.json()["rows"], bad["count"]) == (2, 2)
    assert [line["line"] for line in bad["errors"]] == [2, 3]
    assert "must be a JSON object" in bad["errors"][1]["message"]


def test_lines_tell_how_far_it_is(alone: Stack) -> None:
    with alone.http() as http:
        answer = http.post("/v1/jobs/validate", json=asked(ROWS), headers=LINES)
        whole = http.post("/v1/jobs/validate", json=asked(ROWS)).json()
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *progress, last = map(json.loads, answer.text.splitlines())
    assert {line["object"] for line in progress} == {"job.validation.progress"}
    assert last == whole


def test_both_clients_get_the_same_record(alone: Stack, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, "no row"]))

    async def asked_async() -> object:
        async with AsyncClient(alone.url) as client:
            return await client.jobs.validate(path, progress=True, **WISH)

    with Client(alone.url) as client:
        found = client.jobs.validate(path, **WISH)
        assert found == asyncio.run(asked_async())
        assert (found.rows, found.num_bad_lines, found.num_duplicates) == (3, 1, 1)
        assert found.bad_lines[0].line == 4
        assert not found.ok
        assert client.jobs.validate(ROWS, **WISH).ok
        with pytest.raises(BadRequest, match="cannot read"):
            client.jobs.validate(__file__, format="parquet", **WISH)


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"prompt": "{{ row.text"}, "prompt", "the template cannot be used"),
        ({"sampling": {"temperature": -1}}, "temperature", "temperature"),
        ({"sampling": {"max_tokens": 100_000}}, "max_tokens", "is 100000 tokens"),
        ({"model": "nobody"}, "model", "nobody"),
        ({"input": None}, "input", "input is required"),
        ({"nope": 1}, "nope", "unknown parameter"),
    ],
)
def test_what_no_job_could_be_is_refused_as_for_a_job(
    http: httpx2.Client, change: dict[str, Any], param: str, says: str
) -> None:
    body = asked(ROWS, **change)
    answer, of_a_job = http.post("/v1/jobs/validate", json=body), http.post("/v1/jobs", json=body)
    assert answer.status_code in (400, 404)
    assert answer.json() == of_a_job.json()
    assert answer.json()["error"]["param"] == param
    assert says in answer.json()["error"]["message"]
