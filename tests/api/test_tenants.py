"""Whoever is not its tenant finds nothing, and gets nothing: every route, every id, every list."""

import json
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
import redis

from penstock.api.app import _ROUTES, create_app
from penstock.api.auth import OPEN_PATHS
from penstock.jobs.api_keys import ApiKeys, Scope
from penstock.jobs.interactive import Delta, InteractiveLane, InteractiveRequest, NoWorker
from penstock.jobs.job_dir import JobDir
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import ShardRef
from penstock.jobs.part_counts import PartCounts
from penstock.jobs.reconciler import rebuild_all
from penstock.jobs.redis_client import connect
from penstock.jobs.settings import Settings
from penstock.jobs.tenants import Tenants
from penstock.jobs.workflow.orders.order_names import run_of
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, Stack
from .serving import serving

ROUTES = sorted(
    (method, route.path)
    for module in _ROUTES
    for route in module.router.routes
    for method in route.methods
)
JOB = {"model": IDLE_MODEL, "prompt": "{{ row.text }}", "input": {"rows": [{"text": "x"}] * 3}}
BODIES: dict[str, Any] = {
    "/v1/jobs/{job_id}": {"name": "stolen"},
    "/v1/uploads/{upload_id}/complete": {"part_ids": ["part_1"]},
    "/v1/webhook_endpoints/{endpoint_id}": {"name": "stolen"},
    "/v1/webhook_endpoints/{endpoint_id}/test": {"event_type": "batch.completed"},
}
QUERIES: dict[str, Any] = {"/v1/workflows/runs/{run_id}/rows": {"row_id": "x"}}
# Of these there is one for all tenants, or none to be had without a worker.
COMMON = {"model", "key_id"}
MISSING = {
    "job_id": "job_00000000000000000000000000",
    "file_id": "file-00000000000000000000000000",
    "batch_id": "batch_00000000000000000000000000",
    "upload_id": "upload_00000000000000000000000000",
    "endpoint_id": "wh_00000000000000000000000000",
    "response_id": "resp_00000000000000000000000000",
    "run_id": "run_00000000000000000000000000",
    "name": "no-such-workflow",
}
WORKFLOW: dict[str, Any] = {
    "version": 1,
    "name": "bobs-own",
    "inputs": {"texts": {"type": "dataset", "columns": {"text": "string"}}},
    "steps": [
        {"id": "said", "type": "generate", "from": "inputs.texts", "prompt": "{{ row.text }}"}
    ],
    "defaults": {"model": IDLE_MODEL},
    "output": {"from": "said"},
}


@dataclass(frozen=True)
class House:
    """Two tenants and the admin, each with a client; and what `bob` has made."""

    settings: Settings
    url: str
    alice: httpx2.Client
    bob: httpx2.Client
    admin: httpx2.Client
    of_bob: dict[str, str]

    @property
    def table(self) -> JobTable:
        return JobTable(connect(self.settings), Keys(self.settings.namespace))


@pytest.fixture(scope="module")
def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = replace(
        stack.settings, data=str(tmp_path_factory.mktemp("house")), namespace="house"
    )
    keys = ApiKeys(settings.keys_dir)
    both = (Scope.READ, Scope.SUBMIT)
    made = [keys.create(*each)[1] for each in (("alice", both), ("bob", both))]
    made.append(keys.create("default", [Scope.ADMIN])[1])
    with serving(create_app(settings)) as url:
        alice, bob, admin = (
            httpx2.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60)
            for key in made
        )
        with alice, bob, admin:
            yield House(settings, url, alice, bob, admin, _made_by(bob))


def _made_by(client: httpx2.Client) -> dict[str, str]:
    """Make one of everything."""
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    body = {"model": IDLE_MODEL, "messages": [{"role": "user", "content": "x"}]}
    lines = json.dumps({**line, "body": body}).encode()
    parts = {"file": ("in.jsonl", lines)}
    file_id = _id(client.post("/v1/files", data={"purpose": "batch"}, files=parts))
    batch = {"input_file_id": file_id, "endpoint": line["url"], "completion_window": "24h"}
    upload = {"filename": "a", "purpose": "batch", "bytes": 3, "mime_type": "application/jsonl"}
    endpoint = {"name": "e", "url": "http://127.0.0.1:9/", "event_types": ["batch.completed"]}
    stored = client.post("/v1/workflows", json={"workflow": WORKFLOW})
    assert stored.status_code == 201, stored.text
    run = {"workflow": WORKFLOW["name"], "inputs": {"texts": {"rows": [{"text": "x"}]}}}
    response = {"model": IDLE_MODEL, "input": "x", "background": True}
    return {
        "name": WORKFLOW["name"],
        "run_id": _id(client.post("/v1/workflows/runs", json=run)),
        "response_id": _id(client.post("/v1/responses", json=response)),
        "job_id": _id(client.post("/v1/jobs", json=JOB)),
        "file_id": file_id,
        "batch_id": _id(client.post("/v1/batches", json=batch)),
        "upload_id": _id(client.post("/v1/uploads", json=upload)),
        "endpoint_id": _id(client.post("/v1/webhook_endpoints", json=endpoint)),
    }


def _id(answer: httpx2.Response) -> str:
    assert answer.status_code < 300, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_key_every_door_is_shut(house: House, method: str, path: str) -> None:
    address = re.sub(r"\{.*?\}", "x", path)
    answer = httpx2.request(method, house.url + address, timeout=60)
    if path in OPEN_PATHS:
        assert answer.status_code in (200, 503)
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_what_nobody_thought_of_is_shut_too(house: House) -> None:
    for path in ("/docs", "/openapi.json", "/docs/oauth2-redirect", "/v1//jobs", "/healthz/"):
        assert httpx2.get(house.url + path, timeout=60).status_code == 401
    assert {path for _, path in ROUTES} >= OPEN_PATHS


@pytest.mark.parametrize(
    ("method", "path"),
    [each for each in ROUTES if "{" in each[1] and not any(c in each[1] for c in COMMON)],
)
def test_what_is_anothers_is_as_if_it_were_not_there(house: House, method: str, path: str) -> None:
    kind = re.findall(r"\{(\w+)\}", path)[0]
    foreign, missing = house.of_bob[kind], MISSING[kind]

    def ask(item_id: str) -> httpx2.Response:
        kwargs: dict[str, Any] = {"params": QUERIES.get(path)}
        if path.endswith("/parts"):
            kwargs["files"] = {"data": b"abc"}
        elif method in ("POST", "PATCH"):
            kwargs["json"] = BODIES.get(path, {})
        return house.alice.request(method, path.replace(f"{{{kind}}}", item_id), **kwargs)

    answers = [ask(foreign), ask(missing)]
    assert [each.status_code for each in answers] == [404, 404], answers[0].text
    assert answers[0].text.replace(foreign, missing) == answers[1].text


def test_nothing_of_the_above_touched_what_is_anothers(house: House) -> None:
    for kind, path in (("job_id", "jobs"), ("file_id", "files"), ("batch_id", "batches")):
        assert house.bob.get(f"/v1/{path}/{house.of_bob[kind]}").status_code == 200
    assert house.bob.get(f"/v1/jobs/{house.of_bob['job_id']}").json()["name"] is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("jobs", "job_id"),
        ("files", "file_id"),
        ("batches", "batch_id"),
        ("webhook_endpoints", "endpoint_id"),
        ("workflows", "name"),
        ("workflows/runs", "run_id"),
    ],
)
def test_lists_hold_ones_own(house: House, name: str, kind: str) -> None:
    def listed(client: httpx2.Client, **headers: str) -> set[str]:
        answer = client.get(f"/v1/{name}", headers=headers)
        return {each["id"] for each in answer.json()["data"]}

    wait_for_the_batch(house)
    of_bob = listed(house.bob)
    assert house.of_bob[kind] in of_bob
    assert listed(house.alice).isdisjoint(of_bob)
    assert listed(house.admin).isdisjoint(of_bob)
    assert listed(house.admin, **{"x-penstock-tenant": "bob"}) == of_bob


def test_a_page_does_not_begin_behind_anothers_job(house: House) -> None:
    for job_id in (house.of_bob["job_id"], MISSING["job_id"]):
        refused = house.alice.get(f"/v1/jobs?after={job_id}")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


@pytest.mark.parametrize("name", [WORKFLOW["name"], f"../bob/{WORKFLOW['name']}"])
def test_anothers_workflow_is_not_run(house: House, name: str) -> None:
    house.alice.post("/v1/workflows", json={"workflow": {**WORKFLOW, "name": "alices-own"}})
    run = {"workflow": name, "inputs": {"texts": {"rows": [{"text": "x"}]}}}
    for path in ("runs", "validate", "preview", "plan"):
        refused = house.alice.post(f"/v1/workflows/{path}", json=run)
        code = refused.json()["error"]["code"]
        assert (refused.status_code, code) == (404, "workflow_not_found")


def test_anothers_file_is_no_input(house: House) -> None:
    job = {**JOB, "input": {"file_id": house.of_bob["file_id"]}}
    batch = {
        "input_file_id": house.of_bob["file_id"],
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    assert house.alice.post("/v1/jobs", json=job).status_code == 404
    assert house.alice.post("/v1/batches", json=batch).status_code == 404


def test_the_servers_files_are_for_admins(house: House) -> None:
    sealed = JobDir(house.settings.jobs_dir, house.of_bob["job_id"]).input
    read = {**JOB, "input": {"path": str(sealed)}}
    write = {**JOB, "output": {"path": str(house.settings.data_dir / "elsewhere")}}
    for body in (read, write):
        refused = house.alice.post("/v1/jobs", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    assert house.admin.post("/v1/jobs", json={**read, "prompt": "x"}).status_code != 403


def test_a_workflow_takes_an_admin_to_the_servers_files(house: House) -> None:
    place = house.settings.data_dir / "elsewhere"
    inputs = {"texts": {"rows": [{"text": "x"}]}}
    sunk = {**WORKFLOW, "output": {"sink": {"type": "parquet", "uri": str(place)}}}
    read = {"workflow": WORKFLOW, "inputs": {"texts": {"path": "/etc/hostname"}}}
    write = {"workflow": WORKFLOW, "inputs": inputs, "output": {"path": str(place)}}
    for body in (read, write, {"workflow": sunk, "inputs": inputs}):
        refused = house.alice.post("/v1/workflows/runs", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    for path in ("validate", "preview", "plan"):
        assert house.alice.post(f"/v1/workflows/{path}", json=read).status_code == 403
    trial = {"workflow": sunk, "inputs": inputs, "wait": 0}  # which lands where all trials do
    run = house.alice.post("/v1/workflows/preview", json=trial).json()["run"]
    assert run["output"]["path"].startswith(str(house.settings.results_dir))
    assert not place.exists()


def test_an_idempotency_key_is_a_tenants_own(house: House) -> None:
    job = {**JOB, "idempotency_key": "same"}
    made = {_id(client.post("/v1/jobs", json=job)) for client in (house.alice, house.bob)}
    assert len(made) == 2
    for job_id in made:
        for client in (house.alice, house.bob):
            client.post(f"/v1/jobs/{job_id}/cancel")


def test_the_index_of_tenants_is_made_again(house: House) -> None:
    table, keys = house.table, Keys(house.settings.namespace)
    wait_for_the_batch(house)
    wait_for(lambda: any(run_of(job.job_id) for job in table.list(tenant="bob")), "the run's job")
    before = [job.job_id for job in table.list(tenant="bob")]
    assert house.of_bob["job_id"] in before
    assert isinstance(table.redis, redis.Redis)
    table.redis.delete(keys.jobs_of("bob"))  # as in a table that an older version made
    rebuild_all(house.settings, table)
    assert [job.job_id for job in table.list(tenant="bob")] == before
    table.redis.delete(keys.jobs_of("bob"), *(keys.job(job_id) for job_id in before))
    rebuild_all(house.settings, table)
    assert [job.job_id for job in table.list(tenant="bob")] == before
    table.redis.close()


def test_a_ceiling_holds_priorities_down(house: House) -> None:
    Tenants(house.settings.tenants_dir).change("capped", {"priority_ceiling": -1})
    _, key = ApiKeys(house.settings.keys_dir).create("capped", [Scope.READ, Scope.SUBMIT])
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=house.url, headers=headers, timeout=60) as http:
        made = http.post("/v1/jobs", json=JOB).json()
        assert made["priority"] == -1
        for refused in (
            http.post("/v1/jobs", json={**JOB, "priority": 0}),
            http.patch(f"/v1/jobs/{made['id']}", json={"priority": 0}),
            http.post(f"/v1/jobs/{made['id']}/retry", json={"priority": 0}),
        ):
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "priority_above_ceiling"
        http.post(f"/v1/jobs/{made['id']}/cancel")
        runs = "/v1/workflows/runs"
        wish = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": [{"text": "x"}]}}}
        run = http.post(runs, json=wish).json()
        assert run["priority"] == -1
        for refused in (
            http.post(runs, json={**wish, "priority": 0}),
            http.patch(f"{runs}/{run['id']}", json={"priority": 0}),
            http.post(f"{runs}/{run['id']}/retry", json={"priority": 0}),
        ):
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "priority_above_ceiling"
        http.post(f"{runs}/{run['id']}/cancel")


def test_the_engine_keeps_tenants_prefixes_apart(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[InteractiveRequest] = []

    def generate(_: InteractiveLane, request: InteractiveRequest) -> AsyncGenerator[Delta, None]:
        asked.append(request)
        raise NoWorker("nobody serves it")

    monkeypatch.setattr(InteractiveLane, "generate", generate)
    chat = {"model": IDLE_MODEL, "messages": [{"role": "user", "content": "x"}]}
    for path, body in (
        ("chat/completions", chat),
        ("completions", {"model": IDLE_MODEL, "prompt": "x"}),
        ("responses", {"model": IDLE_MODEL, "input": "x"}),
        ("embeddings", {"model": IDLE_MODEL, "input": "x"}),
    ):
        assert house.bob.post(f"/v1/{path}", json=body).status_code == 503
    assert [request.cache_salt for request in asked] == ["bob"] * 4


def wait_for_the_batch(house: House) -> None:
    """Let what bob's batch makes be there: its job is made by and by."""
    path = f"/v1/batches/{house.of_bob['batch_id']}"
    wait_for(lambda: house.bob.get(path).json()["status"] != "validating", "the batch's job")


def test_usage_is_ones_own_and_adds_up(house: House) -> None:
    wait_for_the_batch(house)
    [before] = house.bob.get("/v1/usage").json()["data"]
    job_id = _id(house.bob.post("/v1/jobs", json=JOB))
    table = house.table
    claim = table.claim(ShardRef(job_id, 0), "w", 60_000)
    table.commit(ShardRef(job_id, 0), claim.attempt, PartCounts(3, 1, 30, 20, 10))
    [after] = house.bob.get("/v1/usage").json()["data"]
    names = ("jobs", "rows_succeeded", "rows_failed", "prompt_tokens", "completion_tokens")
    assert [after[name] - before[name] for name in names] == [1, 2, 1, 30, 20]
    assert after["by_model"][IDLE_MODEL]["prompt_tokens"] == after["prompt_tokens"]
    [of_then] = house.bob.get("/v1/usage?end_time=1").json()["data"]
    assert of_then["jobs"] == 0
    assert house.bob.get("/v1/usage?start_time=2&end_time=1").status_code == 400
    [of_alice] = house.alice.get("/v1/usage").json()["data"]
    assert (of_alice["tenant"], of_alice["prompt_tokens"]) == ("alice", 0)
    assert house.alice.get("/v1/usage?all_tenants=true").status_code == 403
    everybodys = house.admin.get("/v1/usage?all_tenants=true").json()["data"]
    assert {"alice", "bob", "default"} <= {each["tenant"] for each in everybodys}
    house.bob.post(f"/v1/jobs/{job_id}/cancel")
    table.redis.close()


def test_the_admin_sees_who_waits_for_what(house: House) -> None:
    Tenants(house.settings.tenants_dir).change("bob", {"weight": 2.0})
    house.bob.post("/v1/jobs", json=JOB)
    answer = house.admin.get("/v1/queues").json()
    [queue] = [each for each in answer["data"] if each["model"] == IDLE_MODEL]
    [bob] = [each for each in answer["tenants"] if each["tenant"] == "bob"]
    assert queue["waiting_rows"] >= bob["waiting_rows"] >= 3
    assert bob["jobs"]["queued"] >= 1
    assert queue["workers"] == 0
    assert house.bob.get("/v1/queues").status_code == 403
