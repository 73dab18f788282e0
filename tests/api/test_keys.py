"""Who is let in, for what, and how fast: keys on disk, their scopes, and the door of the API."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope as AsgiScope, Send
from typer.testing import CliRunner

from penstock.api.app import create_app
from penstock.api.auth import needed_scope
from penstock.api.cli import make_app
from penstock.api.key_place import place_notes
from penstock.api.local import LocalStack
from penstock.api.principal import Principal, note_principal
from penstock.api.rate_limit import RateGates, RateLimit
from penstock.jobs.api_keys import ApiKeys, Scope, UnknownKey
from penstock.jobs.settings import Settings
from penstock.jobs.tenants import InvalidTenant, Load, Tenant, TenantLimits, Tenants

from .conftest import Stack
from .serving import serving


@dataclass(frozen=True)
class Door:
    url: str
    settings: Settings

    def key(self, *scopes: Scope, tenant: str = "acme") -> str:
        return ApiKeys(self.settings.keys_dir).create(tenant, scopes)[1]

    def get(self, path: str, key: str, **headers: str) -> httpx2.Response:
        headers["authorization"] = f"Bearer {key}"
        return httpx2.get(self.url + path, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def door(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    settings = replace(
        stack.settings, data=str(tmp_path_factory.mktemp("keys")), namespace="keys-test"
    )
    ApiKeys(settings.keys_dir).create("first", [Scope.READ])
    with serving(create_app(settings)) as url:
        yield Door(url, settings)


def test_a_key_is_known_by_itself_alone(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path / "keys")
    assert keys.find("anything") is None
    made, key = keys.create("acme", [Scope.READ], "laptop")
    other = ApiKeys(tmp_path / "keys")  # as another process
    assert other.find(key) == made
    for near in (key[:-1], key + "x", key.swapcase(), "", made.id, made.digest, "ké\udc80y"):
        assert other.find(near) is None
    assert (made.tenant, made.scopes, made.name) == ("acme", {Scope.READ}, "laptop")


def test_the_disk_holds_no_key(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    _, key = ApiKeys(directory).create("acme", [Scope.READ])
    assert all(key.encode() not in path.read_bytes() for path in directory.iterdir())
    assert directory.stat().st_mode & 0o077 == 0


def test_a_revoked_key_is_dead_and_stays_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ApiKeys(tmp_path / "keys")
    elsewhere = ApiKeys(tmp_path / "keys")
    made, key = keys.create("acme", [Scope.READ])
    assert elsewhere.find(key) is not None
    assert keys.revoke(made.id).revoked_at is not None
    assert keys.find(key) is None
    monkeypatch.setattr("penstock.jobs.api_keys._MAX_AGE_S", -1.0)
    assert elsewhere.find(key) is None
    assert [each.id for each in keys.list()] == [made.id]
    assert ApiKeys(tmp_path / "keys").have_been_made(), "else the last one's end opens the door"
    with pytest.raises(UnknownKey, match="keys list"):
        keys.revoke("key_none")


def test_what_a_tenant_may_have_is_kept(tmp_path: Path) -> None:
    tenants = Tenants(tmp_path)
    assert tenants.get("acme") == Tenant(name="acme")
    tenants.change("acme", {"weight": 3.0, "max_rows": 10})
    tenants.change("acme", {"priority_ceiling": 5})
    kept = Tenants(tmp_path).get("acme")
    assert (kept.weight, kept.max_rows, kept.priority_ceiling) == (3.0, 10, 5)
    assert (kept.capped(9), kept.capped(-1)) == (5, -1)
    assert kept.shortage(Load(rows=9, tokens=1e9)) is None
    assert "10 rows" in (kept.shortage(Load(rows=10)) or "")
    wrong: list[TenantLimits] = [{"weight": 0.0}, {"weight": float("nan")}, {"max_rows": 0}]
    for limits in wrong:
        with pytest.raises(InvalidTenant):
            tenants.change("acme", limits)
    for name in ("", "../x", "A", "a:b", "a*", "x" * 64):
        with pytest.raises(InvalidTenant, match="name"):
            tenants.change(name, {})
    (tmp_path / "acme.json").write_text("{")
    assert Tenants(tmp_path).get("acme") == Tenant(name="acme"), "the queue goes on"


@pytest.mark.parametrize("rot", [b"{", b'{"name": "ac\xffme"}'])
def test_no_limit_is_lifted_because_its_file_is_damaged(tmp_path: Path, rot: bytes) -> None:
    tenants = Tenants(tmp_path)
    tenants.change("acme", {"max_rows": 10})
    (tmp_path / "acme.json").write_bytes(rot)
    with pytest.raises(InvalidTenant, match=r"acme\.json .*: mend it, or delete it") as refused:
        tenants.change("acme", {"weight": 3.0})
    assert refused.value.param == "tenant"
    assert (tmp_path / "acme.json").read_bytes() == rot
    assert tenants.get("acme") == Tenant(name="acme")
    (tmp_path / "acme.json").unlink()
    assert tenants.change("acme", {"weight": 3.0}).weight == 3.0


def test_a_scope_is_asked_for(door: Door) -> None:
    read, admin = door.key(Scope.READ), door.key(Scope.ADMIN)
    assert door.get("/v1/jobs", read).status_code == 200
    for path in ("/v1/keys", "/v1/workers", "/metrics", "/docs", "/openapi.json"):
        refused = door.get(path, read)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
        assert door.get(path, admin).status_code == 200
    refused = httpx2.post(
        f"{door.url}/v1/jobs", headers={"authorization": f"Bearer {read}"}, timeout=60
    )
    assert refused.status_code == 403
    submit = door.key(Scope.SUBMIT)
    assert door.get("/v1/jobs", submit).status_code == 403
    posted = httpx2.post(
        f"{door.url}/v1/jobs", json={}, headers={"authorization": f"Bearer {submit}"}, timeout=60
    )
    assert posted.status_code == 400


def test_changing_needs_more_than_reading() -> None:
    assert needed_scope("GET", "/v1/jobs") is needed_scope("HEAD", "/v1/new") is Scope.READ
    for method in ("POST", "PATCH", "PUT", "DELETE", "BREW"):
        assert needed_scope(method, "/v1/jobs") is Scope.SUBMIT
    assert needed_scope("GET", "/v1/keys/key_1") is Scope.ADMIN
    assert needed_scope("GET", "/v1/keyserver") is Scope.READ


def test_a_key_counts_once_revoked_never(door: Door) -> None:
    made, key = ApiKeys(door.settings.keys_dir).create("acme", [Scope.READ])
    assert door.get("/v1/models", key[:-1]).status_code == 401
    assert door.get("/v1/models", "none").status_code == 401
    ApiKeys(door.settings.keys_dir).revoke(made.id)
    assert door.get("/v1/models", key).status_code == 401


def test_only_an_admin_acts_for_others(door: Door) -> None:
    tenant = {"x-penstock-tenant": "other"}
    assert door.get("/v1/jobs", door.key(Scope.READ), **tenant).status_code == 403
    assert door.get("/v1/jobs", door.key(Scope.ADMIN), **tenant).status_code == 200
    bad = door.get("/v1/jobs", door.key(Scope.ADMIN), **{"x-penstock-tenant": "../x"})
    assert bad.status_code == 400


def test_keys_are_made_and_revoked_over_http(door: Door) -> None:
    admin = {"authorization": f"Bearer {door.key(Scope.ADMIN)}"}
    body = {"tenant": "made", "scopes": ["read"], "weight": 2.0, "max_rows": 7}
    with httpx2.Client(base_url=door.url, headers=admin, timeout=60) as http:
        made = http.post("/v1/keys", json=body).json()
        assert made["limits"]["weight"] == 2.0
        assert made["limits"]["max_rows"] == 7
        assert door.get("/v1/jobs", made["key"]).status_code == 200
        listed = http.get("/v1/keys?limit=100").json()["data"]
        assert made["id"] in [each["id"] for each in listed]
        assert made["key"] not in json.dumps(listed)
        assert http.delete(f"/v1/keys/{made['id']}").json()["revoked_at"] is not None
        assert http.delete("/v1/keys/key_none").status_code == 404
        for wrong in ({"tenant": "A"}, {"tenant": "a", "scopes": []}, {"tenant": "a", "weight": 0}):
            assert http.post("/v1/keys", json=wrong).status_code == 400


async def _requests(
    limit: RateLimit, tenant: str, times: int, method: str = "GET", path: str = "/v1/jobs"
) -> list[int]:
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        raise AssertionError("nobody reads a body here")

    for _ in range(times):
        scope: AsgiScope = {"type": "http", "method": method, "path": path}
        note_principal(scope, Principal(tenant))
        await limit(scope, receive, send)
    return statuses


async def _ok(scope: AsgiScope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})


def test_requests_that_come_too_fast_are_told_to_wait(tmp_path: Path) -> None:
    tenants = Tenants(tmp_path)
    tenants.change("acme", {"requests_per_minute": 2})
    now_s = [0.0]
    gates = RateGates(tenants, lambda: now_s[0])
    limit = RateLimit(_ok, gates)
    assert asyncio.run(_requests(limit, "acme", 3)) == [200, 200, 429]
    assert asyncio.run(_requests(limit, "other", 3)) == [200, 200, 200]
    assert (gates.requests.used("acme", 2), gates.requests.used("other", None)) == (2, None)
    now_s[0] = 29.0
    assert asyncio.run(_requests(limit, "acme", 1)) == [429]
    now_s[0] = 31.0
    assert asyncio.run(_requests(limit, "acme", 2)) == [200, 429]


def test_what_makes_something_has_a_limit_of_its_own(tmp_path: Path) -> None:
    tenants = Tenants(tmp_path)
    tenants.change("acme", {"creates_per_minute": 1})
    gates = RateGates(tenants, lambda: 0.0)
    assert asyncio.run(_requests(RateLimit(_ok, gates), "acme", 3)) == [200, 200, 200]
    assert gates.creation_refusal("acme") is None
    refusal = gates.creation_refusal("acme")
    assert refusal is not None
    assert "creates_per_minute" in refusal.message
    assert refusal.headers()["retry-after"] == "60"
    assert gates.creation_refusal("other") is None


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(make_app(), list(arguments))
    text = result.output + ("" if result.exception is None else str(result.exception))
    return result.exit_code, text


def test_the_command_line_makes_lists_and_revokes(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path), "-o", "json"]
    code, text = _run(
        "keys", "create", "--tenant", "acme", "--weight", "2", "--max-rows", "9", *data
    )
    assert code == 0
    said, *notes = text.splitlines()
    assert notes[0] == f"kept in {tmp_path}"
    assert f"no server has worked with {tmp_path} yet" in notes[1]
    made = json.loads(said)
    found = ApiKeys(tmp_path / "keys").find(made["key"])
    assert found is not None
    assert found.scopes == {Scope.SUBMIT, Scope.READ}
    assert Tenants(tmp_path / "tenants").get("acme").weight == 2
    code, text = _run("keys", "list", *data)
    where, line = text.splitlines()
    assert where == f"keys kept in {tmp_path}"
    assert json.loads(line)["id"] == made["id"]
    assert made["key"] not in text
    table = _run("keys", "list", "--data", str(tmp_path), "-o", "table")[1]
    assert "read, submit" in table
    assert datetime.fromtimestamp(made["created_at"]).strftime("%Y-%m-%d %H:%M") in table
    assert _run("keys", "revoke", made["id"], *data)[0] == 0
    assert ApiKeys(tmp_path / "keys").find(made["key"]) is None
    assert "a scope must be" in _run("keys", "create", "--tenant", "a", "--scopes", "x", *data)[1]
    assert "name must be" in _run("keys", "create", "--tenant", "A", *data)[1]


def test_a_key_that_the_running_server_does_not_know_is_told_of(
    door: Door, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.api.key_place._LEARNS_WITHIN_S", 0.0)
    elsewhere = Settings(url=door.url, data=str(tmp_path))
    _, _, asks_for_others = place_notes(elsewhere, "unheard-of")
    assert f"{door.url} does not know this key" in asks_for_others
    _, _, asks_for_none = place_notes(replace(elsewhere, url=stack.url), "unheard-of")
    assert f"{stack.url} asks for no key" in asks_for_none
    key = door.key(Scope.SUBMIT)
    assert list(place_notes(replace(door.settings, url=door.url), key)) == [
        f"kept in {door.settings.data}"
    ]


def test_the_command_line_sets_limits_and_lifts_them(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path), "-o", "json"]
    limits = ["--max-rows", "6", "--max-stored-bytes", "7", "--max-streams", "8"]
    rates = ["--requests-per-minute", "9", "--creates-per-minute", "10", "--weight", "2"]
    assert _run("keys", "create", "--tenant", "acme", *limits, *rates, *data)[0] == 0
    acme = Tenants(tmp_path / "tenants").get("acme")
    assert (acme.max_rows, acme.max_stored_bytes, acme.max_streams) == (6, 7, 8)
    assert (acme.requests_per_minute, acme.creates_per_minute) == (9, 10)
    for flag in ("--max-rows", "--creates-per-minute"):
        code, text = _run("keys", "create", "--tenant", "acme", flag, "-5", *data)
        assert code != 0
        assert f"{flag} must be at least 1, or 0 for none, got -5" in " ".join(text.split())
    lifted = [word if word.startswith("--") else "0" for word in limits + rates[:4]]
    assert _run("keys", "create", "--tenant", "acme", *lifted, *data)[0] == 0
    assert Tenants(tmp_path / "tenants").get("acme") == Tenant(name="acme", weight=2)


@pytest.mark.parametrize("verb", ["api", "up"])
def test_no_key_no_open_door(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_DATA", str(tmp_path))
    monkeypatch.delenv("PENSTOCK_API_KEY", raising=False)
    code, text = _run(verb, "--host", "0.0.0.0")
    assert code != 0
    assert "--no-auth" in text


def test_a_local_stack_holds_a_key_of_its_own_where_one_is_asked_for(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    stack = LocalStack(settings)
    stack._listener.close()
    assert stack.settings.api_key is None
    ApiKeys(settings.keys_dir).create("acme", [Scope.READ])
    stack = LocalStack(settings)
    stack._listener.close()
    assert stack.settings.api_key
