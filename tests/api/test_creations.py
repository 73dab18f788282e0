"""Whatever makes something that lasts is counted, and refused where there is no room for it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.jobs.api_keys import ApiKeys, Scope
from penstock.jobs.tenants import Tenants

from .conftest import MODEL, Stack
from .serving import serving

# What writes and makes nothing that lasts: it answers, steers, changes or ends what there is.
MAKES_NOTHING = {
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/responses",  # but in the background: see below
    "POST /v1/responses/{response_id}/cancel",
    "POST /v1/jobs/{job_id}/cancel",
    "POST /v1/jobs/{job_id}/pause",
    "POST /v1/jobs/{job_id}/resume",
    "PATCH /v1/jobs/{job_id}",
    "POST /v1/uploads/{upload_id}/parts",  # counted when they were announced
    "POST /v1/uploads/{upload_id}/complete",
    "POST /v1/uploads/{upload_id}/cancel",
    "POST /v1/batches/{batch_id}/cancel",
    "POST /v1/webhook_endpoints/{endpoint_id}",
    "POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret",
    "POST /v1/workflows/validate",
    "PATCH /v1/workflows/runs/{run_id}",
    "POST /v1/workflows/runs/{run_id}/pause",
    "POST /v1/workflows/runs/{run_id}/resume",
    "POST /v1/workflows/runs/{run_id}/cancel",
    "POST /v1/keys",  # an operator's
}
TAKES_NO_ROOM = {"POST /v1/webhook_endpoints", "POST /v1/webhook_endpoints/{endpoint_id}/test"}
WRITES = {"POST", "PUT", "PATCH"}
IN_BACKGROUND = {"model": MODEL, "input": "hi", "background": True}


@pytest.fixture(scope="module")
def door(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx2.Client, Tenants, list[str]]]:
    """A door to an installation of one's own, one who knocks, and what routes make something."""
    data = str(tmp_path_factory.mktemp("made"))
    settings = replace(stack.settings, data=data, namespace="made")
    tenants = Tenants(settings.tenants_dir)
    tenants.change("acme", {"creates_per_minute": 1_000})
    _, key = ApiKeys(settings.keys_dir).create("acme", list(Scope))
    app = create_app(settings)
    headers = {"authorization": f"Bearer {key}"}
    written = {
        f"{method.upper()} {path}"
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if method.upper() in WRITES
    }
    assert written >= MAKES_NOTHING | TAKES_NO_ROOM
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(app) as url,
        httpx2.Client(base_url=url, headers=headers, timeout=60) as http,
    ):
        patch.setattr("penstock.jobs.tenants._MAX_AGE_S", -1.0)
        patch.setattr(app.state.services.gates.creates, "_clock_s", lambda: 0.0)
        yield http, tenants, sorted(written - MAKES_NOTHING)


def _refusals(http: httpx2.Client, routes: list[str], status: int) -> dict[str, Any]:
    """Send nothing to each route, which what it wants of a body would refuse with another word."""
    answers = {route: http.request(*route.split(), json={}) for route in routes}
    answers["a response"] = http.post("/v1/responses", json=IN_BACKGROUND)
    told = {route: answer.json()["error"] for route, answer in answers.items()}
    assert {route: answer.status_code for route, answer in answers.items()} == dict.fromkeys(
        answers, status
    ), told
    return told


def test_what_a_tenant_has_no_room_for_is_refused_by_every_route_that_makes_something(
    door: tuple[httpx2.Client, Tenants, list[str]],
) -> None:
    http, tenants, routes = door
    parts = {"file": ("a.jsonl", b"{}")}
    assert http.post("/v1/files", data={"purpose": "batch"}, files=parts).status_code == 200
    tenants.change("acme", {"max_stored_bytes": 1})
    taking = [route for route in routes if route not in TAKES_NO_ROOM]
    told = _refusals(http, taking, 403)
    assert {error["code"] for error in told.values()} == {"storage_quota_exceeded"}


def test_every_route_that_makes_something_is_counted(
    door: tuple[httpx2.Client, Tenants, list[str]],
) -> None:
    http, tenants, routes = door
    tenants.change("acme", {"max_stored_bytes": None, "creates_per_minute": 1})
    http.post("/v1/uploads", json={})  # what cannot be made counts as well
    told = _refusals(http, routes, 429)
    assert all("creates_per_minute" in error["message"] for error in told.values())
    assert http.post("/v1/workflows/validate", json={}).status_code == 400
