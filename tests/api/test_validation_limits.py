"""Dry runs over HTTP are bounded: one of a tenant, for so long, and only while somebody listens."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.api.client import Client
from penstock.api.routes import validation
from penstock.jobs import dry_run_process
from penstock.jobs.api_keys import ApiKeys, Scope
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, MODEL, Stack
from .serving import serving

LINES = {"accept": "application/x-ndjson"}
MANY = 500_000
# Seconds for each row: as much work as one may do.
SLOW = "{% for a in range(9999) %}{% for b in range(480) %}{% endfor %}{% endfor %}{{ row.t }}"
WISH: dict[str, Any] = {"prompt": "Say {{ row.t }}", "model": MODEL}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows for many seconds."""
    path = tmp_path_factory.mktemp("many") / "rows.jsonl"
    path.write_text('{"t": "a"}\n' * MANY)
    return path


@pytest.fixture(scope="module")
def keys(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, str]]]:
    """An installation that asks for keys: its address, and a key for each kind of caller."""
    settings = replace(stack.settings, data=str(tmp_path_factory.mktemp("keys")), namespace="dry")
    book = ApiKeys(settings.keys_dir)
    made = {
        "reader": book.create("acme", [Scope.READ])[1],
        "submitter": book.create("acme", [Scope.READ, Scope.SUBMIT])[1],
        "admin": book.create("acme", list(Scope))[1],
        "other": book.create("other", [Scope.READ, Scope.SUBMIT])[1],
    }
    with serving(create_app(settings)) as url:
        yield url, {name: f"Bearer {key}" for name, key in made.items()}


def at_path(path: Path) -> dict[str, Any]:
    return {**WISH, "model": IDLE_MODEL, "input": {"path": str(path)}}


def test_who_may_submit_may_look_and_only_an_admin_at_the_servers_files(
    keys: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    url, bearers = keys
    path = tmp_path / "rows.jsonl"
    path.write_text('{"t": "a"}\n')
    rows = {**WISH, "model": IDLE_MODEL, "input": {"rows": [{"t": "a"}]}}

    def status(who: str, body: dict[str, Any]) -> int:
        headers = {"authorization": bearers[who]}
        answer = httpx2.post(f"{url}/v1/jobs/validate", json=body, headers=headers, timeout=60)
        return answer.status_code

    assert [status(who, rows) for who in ("reader", "submitter", "other")] == [403, 200, 200]
    assert [status(who, at_path(path)) for who in ("submitter", "admin")] == [403, 200]


def test_another_tenants_file_is_not_there(keys: tuple[str, dict[str, str]]) -> None:
    url, bearers = keys
    with httpx2.Client(base_url=url, timeout=60) as http:
        mine, others = ({"authorization": bearers[who]} for who in ("submitter", "other"))
        parts = {"file": ("a.jsonl", b'{"t": "a"}\n{"t": "b"}\n')}
        file = http.post("/v1/files", data={"purpose": "batch"}, files=parts, headers=mine).json()
        body = {**WISH, "model": IDLE_MODEL, "input": {"file_id": file["id"]}}
        assert http.post("/v1/jobs/validate", json=body, headers=others).status_code == 404
        assert http.post("/v1/jobs/validate", json=body, headers=mine).json()["rows"] == 2


@pytest.mark.parametrize("form", [{}, LINES])
def test_who_leaves_ends_it_and_nobody_has_two(
    keys: tuple[str, dict[str, str]], many: Path, form: dict[str, str]
) -> None:
    url, bearers = keys
    headers = {"authorization": bearers["admin"]}
    body, small = (
        at_path(many) | {"prompt": SLOW},
        {**at_path(many), "input": {"rows": [{"t": "a"}]}},
    )
    with httpx2.Client(base_url=url, headers=headers, timeout=60) as http:

        def look(body: dict[str, Any], **headers: str) -> httpx2.Response:
            return http.post("/v1/jobs/validate", json=body, headers=headers)

        if form:
            with http.stream("POST", "/v1/jobs/validate", json=body, headers=form) as answer:
                lines = answer.iter_lines()  # dropped, it would close its answer
                first = json.loads(next(lines))
                assert first["object"] == "job.validation.progress"
                refused = look(small)
                others = look(small, authorization=bearers["other"])
            assert (refused.status_code, others.status_code) == (429, 200)
            assert refused.json()["error"]["code"] == "validation_running"
            assert int(refused.headers["retry-after"]) > 0
        else:
            with pytest.raises(httpx2.ReadTimeout):
                http.post("/v1/jobs/validate", json=body, timeout=1.0)
        wait_for(lambda: look(small).status_code == 200, "an end")


def test_after_its_time_it_tells_of_the_first_rows(
    stack: Stack, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "LIMIT_S", 0.1)
    monkeypatch.setattr(dry_run_process, "_GRACE_S", 60.0)  # of which its process needs some
    with stack.http(60.0) as http:
        found = http.post("/v1/jobs/validate", json=at_path(many)).json()
    assert (found["ok"], found["complete"]) == (False, False)
    assert 0 < found["rows"] < MANY
    assert "0.1 s" in found["stopped"]


def test_earlier_jobs_tell_how_long_answers_are(stack: Stack) -> None:
    task: dict[str, Any] = {**WISH, "prompt": "Tell of {{ row.t }}", "sampling": {"max_tokens": 6}}
    rows = [{"t": f"pipe {n}"} for n in range(5)]
    with Client(stack.url) as client:
        client.jobs.submit(rows, **task).wait()
        found = client.jobs.validate(rows * 2, **task)
        assert found.output_tokens == 10 * 6
        assert found.output_at_most == 10 * 6
        assert "with the same task" in found.raw["rests_on"][0]
        task["prompt"] = "{{ row.t }}"
        other = client.jobs.validate(rows, **task)
        assert "with other tasks" in other.raw["rests_on"][0]
        task["model"] = IDLE_MODEL
        unknown = client.jobs.validate(rows, **task)
        assert (unknown.output_tokens, unknown.output_at_most) == (None, 30)
        assert unknown.seconds is None
        assert "no worker of" in unknown.raw["rests_on"][1]
