"""Dry runs take turns: who has to wait is told so, and no upload comes before its turn."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import redis

from penstock.api.app import create_app
from penstock.api.catalog import Catalog
from penstock.api.errors import Overloaded, TooManyRequests
from penstock.api.routes import validation
from penstock.api.validation_slots import MAX_DRY_RUNS, ValidationSlots
from penstock.jobs.api_keys import ApiKeys, Scope
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, Stack
from .serving import serving

LINES = {"accept": "application/x-ndjson"}
# Seconds for each row: as much work as one may do.
SLOW = "{% for a in range(9999) %}{% for b in range(480) %}{% endfor %}{% endfor %}{{ row.t }}"
QUICK: dict[str, Any] = {"prompt": "x", "model": IDLE_MODEL, "input": {"rows": [{"t": "a"}]}}
ENDLESS = {**QUICK, "prompt": SLOW, "input": {"rows": [{"t": "a"}] * 1000}}
MAX_FILE_BYTES = 10_000


@pytest.fixture(scope="module")
def tenants(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[httpx2.Client]]:
    """Clients of as many tenants as may dry run at a time, and of one more."""
    settings = replace(
        stack.settings,
        data=str(tmp_path_factory.mktemp("turns")),
        namespace="turns",
        max_file_gb=MAX_FILE_BYTES / 1e9,
    )
    book = ApiKeys(settings.keys_dir)
    scopes = [Scope.READ, Scope.SUBMIT]
    made = [book.create(f"tenant{n}", scopes)[1] for n in range(MAX_DRY_RUNS + 1)]
    with serving(create_app(settings)) as url, ExitStack() as opened:
        yield [
            opened.enter_context(
                httpx2.Client(base_url=url, timeout=60, headers={"authorization": f"Bearer {key}"})
            )
            for key in made
        ]


@pytest.fixture
def busy(tenants: list[httpx2.Client]) -> Iterator[ExitStack]:
    """As many endless dry runs as may be; closed, they end."""
    lines: list[Iterator[str]] = []
    with ExitStack() as opened:
        for http in tenants[:-1]:
            answer = opened.enter_context(looking(http, ENDLESS))
            lines.append(answer.iter_lines())  # an iterator that is dropped closes its answer
            assert any("waiting" not in line for line in lines[-1])
        yield opened
    for http in tenants[:-1]:
        wait_for(lambda http=http: look(http).status_code == 200, "an end")


def looking(http: httpx2.Client, body: dict[str, Any]) -> Any:
    return http.stream("POST", "/v1/jobs/validate", json=body, headers=LINES)


def look(http: httpx2.Client, **form: Any) -> httpx2.Response:
    return http.post("/v1/jobs/validate", **form or {"json": QUICK})


def code(answer: httpx2.Response) -> str:
    return answer.json()["error"]["code"]


def test_who_reads_lines_is_told_that_others_are_before(
    tenants: list[httpx2.Client], busy: ExitStack
) -> None:
    with looking(tenants[-1], QUICK) as answer:
        lines = map(json.loads, answer.iter_lines())
        first = next(lines)
        assert (first["object"], first["waiting"]) == ("job.validation.progress", True)
        busy.close()
        *_, last = lines
    assert (last["object"], last["ok"]) == ("job.validation", True)


def test_who_is_told_nothing_does_not_wait_for_long(
    tenants: list[httpx2.Client], busy: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "PATIENCE_S", 0.1)
    refused = look(tenants[-1])
    assert (refused.status_code, code(refused)) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    with looking(tenants[-1], QUICK) as answer:
        lines = answer.iter_lines()
        assert "waiting" in next(lines)
        assert code(look(tenants[-1])) == "validation_running"
    # Who leaves the line has no place in it: the others have not ended yet.
    wait_for(lambda: code(look(tenants[-1])) == "overloaded", "the line to be left")


def test_no_upload_is_taken_before_its_tenant_may(
    tenants: list[httpx2.Client], busy: ExitStack
) -> None:
    unreadable = {"content": b"", "headers": {"content-type": "multipart/form-data"}}
    assert code(look(tenants[0], **unreadable)) == "validation_running"


def test_an_upload_is_no_larger_than_a_file_may_be(tenants: list[httpx2.Client]) -> None:
    request = {"request": json.dumps({**QUICK, "input": None})}
    line = b'{"t": "a"}\n'
    for num_lines, status in ((MAX_FILE_BYTES // len(line), 200), (MAX_FILE_BYTES, 413)):
        files = {"file": ("rows.jsonl", line * num_lines)}
        assert look(tenants[0], data=request, files=files).status_code == status


def test_only_so_many_may_wait() -> None:
    slots = ValidationSlots(max_dry_runs=1, max_waiting=1)
    with slots.of("a"):
        with pytest.raises(TooManyRequests, match="this tenant"), slots.of("a"):
            pass
        with slots.of("b"), pytest.raises(Overloaded), slots.of("c"):
            pass
        with slots.of("c"):
            pass


@pytest.mark.parametrize("form", [{}, LINES])
def test_what_was_found_is_told_though_redis_is_away_at_the_end(
    tenants: list[httpx2.Client], monkeypatch: pytest.MonkeyPatch, form: dict[str, str]
) -> None:
    async def away(_: Catalog) -> None:
        raise redis.ConnectionError("refused")

    monkeypatch.setattr(Catalog, "workers", away)
    answer = look(tenants[0], json=QUICK, headers=form)
    found = json.loads(answer.text.splitlines()[-1])
    assert (found["object"], found["ok"], found["seconds"]) == ("job.validation", True, None)
    assert "the queue does not answer" in found["rests_on"][1]
