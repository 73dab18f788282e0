"""A tenant's quotas over HTTP: what waits, what is refused and why, and what is shown of it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.api.errors import TooManyRequests
from penstock.api.principal import Principal
from penstock.api.stream_slots import StreamSlots
from penstock.jobs.api_keys import ApiKeys, Scope
from penstock.jobs.ending import cancel
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import ShardRef, TaskSpec
from penstock.jobs.redis_client import connect
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.tenants import TenantLimits, Tenants
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, MODEL, Stack
from .plain_workflows import WORKFLOW
from .serving import serving

JOB = {"model": IDLE_MODEL, "prompt": "{{ row.text }}", "input": {"rows": [{"text": "x"}] * 3}}


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tenants", "stored_bytes", "quotas"):
        monkeypatch.setattr(f"penstock.jobs.{module}._MAX_AGE_S", -1.0)


@dataclass(frozen=True)
class Flat:
    """One server, and a client for each tenant that is asked for."""

    settings: Settings
    url: str

    def tenant(self, name: str, limits: TenantLimits) -> httpx2.Client:
        Tenants(self.settings.tenants_dir).change(name, limits)
        _, key = ApiKeys(self.settings.keys_dir).create(name, [Scope.READ, Scope.SUBMIT])
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def flat(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flat]:
    settings = replace(
        stack.settings, data=str(tmp_path_factory.mktemp("flat")), namespace="quotas"
    )
    with serving(create_app(settings)) as url:
        yield Flat(settings, url)


def _send_file(http: httpx2.Client, num_bytes: int) -> httpx2.Response:
    content = b'{"a": "' + b"x" * (num_bytes - 9) + b'"}'
    assert len(content) == num_bytes
    parts = {"file": ("in.jsonl", content)}
    return http.post("/v1/files", data={"purpose": "batch"}, files=parts)


def _refused(answer: httpx2.Response) -> str:
    assert answer.status_code == 403, answer.text
    assert answer.json()["error"]["code"] == "storage_quota_exceeded"
    assert answer.headers["x-should-retry"] == "false"
    return answer.json()["error"]["message"]


def test_who_stores_as_much_as_it_may_has_to_delete_something(flat: Flat) -> None:
    with flat.tenant("full", {"max_stored_bytes": 20_000}) as http:
        first = _send_file(http, 15_000).json()
        told = _refused(_send_file(http, 6_000))
        assert "20000" in told and "files 15000" in told and "DELETE /v1/files/ID" in told
        upload = {"filename": "a", "purpose": "batch", "bytes": 6_000, "mime_type": "text/plain"}
        _refused(http.post("/v1/uploads", json=upload))
        announced = http.post("/v1/uploads", json={**upload, "bytes": 4_990})
        assert announced.status_code == 200
        assert "uploads under way 4990" in _refused(_send_file(http, 20))
        in_use = http.get("/v1/usage").json()["data"][0]["in_use"]
        assert in_use["stored_bytes"] == {"files": 15_000, "uploads": 4_990, "jobs": 0, "runs": 0}
        assert in_use["max_stored_bytes"] == 19_990
        assert http.delete(f"/v1/files/{first['id']}").status_code == 200
        assert _send_file(http, 6_000).status_code == 200


def test_what_is_stored_is_told_only_where_it_is_limited(flat: Flat) -> None:
    with flat.tenant("wide", {"max_rows": 10}) as http:
        in_use = http.get("/v1/usage").json()["data"][0]["in_use"]
        assert (in_use["stored_bytes"], in_use["max_stored_bytes"]) == (None, None)
        assert in_use["max_rows"] == 0


def test_jobs_take_room_until_they_are_deleted(flat: Flat) -> None:
    with flat.tenant("busy", {"max_stored_bytes": 1_000}) as http:
        job = http.post("/v1/jobs", json=JOB).json()  # begun while there is room, it goes beyond
        told = _refused(http.post("/v1/jobs", json=JOB))
        assert "DELETE /v1/jobs/ID" in told
        batch = {
            "input_file_id": "file-00000000000000000000000000",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        _refused(http.post("/v1/batches", json=batch))
        waits = http.get(f"/v1/jobs/{job['id']}").json()["status_reason"]
        assert waits.startswith("quota_bytes: the tenant busy stores") and "deleted" in waits
        assert http.delete(f"/v1/jobs/{job['id']}").status_code == 409
        http.post(f"/v1/jobs/{job['id']}/cancel")
        gone = http.delete(f"/v1/jobs/{job['id']}")
        assert gone.json() == {"id": job["id"], "object": "job", "deleted": True}
        assert http.get(f"/v1/jobs/{job['id']}").status_code == 404
        assert http.delete(f"/v1/jobs/{job['id']}").status_code == 404
        used = http.get("/v1/usage").json()["data"][0]
        assert used["jobs"] == 1, "what it has used stays on record"
        again = http.post("/v1/jobs", json=JOB)
        assert again.status_code == 202, "there is room at once"
        http.post(f"/v1/jobs/{again.json()['id']}/cancel")


def test_workflows_take_room_until_they_are_deleted_with_all_versions(flat: Flat) -> None:
    def stored() -> int:
        return http.get("/v1/usage").json()["data"][0]["in_use"]["stored_bytes"]["runs"]

    with flat.tenant("author", {"max_stored_bytes": 1_000}) as http:
        kept = http.post("/v1/workflows", json={"workflow": WORKFLOW})
        assert kept.status_code == 201, kept.text
        assert stored() > 500
        changed = {"workflow": {**WORKFLOW, "params": {"mark": "?"}}}
        _refused(http.post("/v1/workflows", json=changed))
        path = f"/v1/workflows/{WORKFLOW['name']}"
        told = http.delete(path).json()
        assert told == {"id": WORKFLOW["name"], "object": "workflow", "deleted": True}
        assert stored() == 0
        for verb in ("GET", "DELETE"):
            assert http.request(verb, path).status_code == 404
        assert http.post("/v1/workflows", json=changed).json()["version"] == 1


def test_what_is_deleted_makes_room_at_once_whatever_was_measured_before(
    flat: Flat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.jobs.stored_bytes._MAX_AGE_S", 3_600.0)
    monkeypatch.setattr("penstock.api.storage_quota._TIGHT_AGE_S", 3_600.0)
    with flat.tenant("tidy", {"max_stored_bytes": 20_000}) as http:
        file_id = _send_file(http, 15_000).json()["id"]
        _refused(_send_file(http, 6_000))
        http.delete(f"/v1/files/{file_id}")
        assert _send_file(http, 6_000).status_code == 200
    with flat.tenant("neat", {"max_stored_bytes": 20_000}) as http:
        upload = {"filename": "a", "purpose": "batch", "bytes": 20_000, "mime_type": "text/plain"}
        announced = http.post("/v1/uploads", json=upload)
        assert announced.status_code == 200
        _refused(http.post("/v1/uploads", json=upload))  # which looks anew
        _refused(http.post("/v1/jobs", json=JOB))
        http.post(f"/v1/uploads/{announced.json()['id']}/cancel")
        assert http.post("/v1/jobs", json=JOB).status_code == 202
    with flat.tenant("tidier", {"max_stored_bytes": 1_000}) as http:
        job = http.post("/v1/jobs", json=JOB).json()["id"]
        http.post(f"/v1/jobs/{job}/cancel")
        _refused(_send_file(http, 20))
        http.delete(f"/v1/jobs/{job}")
        assert _send_file(http, 20).status_code == 200


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            {"max_rows": 2},
            "quota_rows: 2 rows of the tenant {} are queued or running, of at most 2",
        ),
        ({"max_queued_tokens": 512}, "quota_tokens: rows of about 512 tokens of the tenant {} are"),
    ],
)
def test_a_job_that_waits_for_a_quota_says_so(flat: Flat, limits: TenantLimits, told: str) -> None:
    name = "-".join(limits).replace("_", "-")
    with flat.tenant(name, limits) as http, connect(flat.settings) as redis:
        table = JobTable(redis, Keys(flat.settings.namespace))
        job_id = submit(
            flat.settings,
            table,
            RowsSource([{"text": "x"}] * 3),
            SubmitRequest(TaskSpec(IDLE_MODEL, prompt="x"), tenant=name, shard_rows=1),
        ).spec.job_id

        def reason() -> str | None:
            return http.get(f"/v1/jobs/{job_id}").json()["status_reason"]

        def begin(num_shards: int) -> None:
            for index in table.issue(job_id, num_shards):
                assert table.claim(ShardRef(job_id, index), "w", 600_000).status == "granted"

        assert reason() is None
        begin(2)  # as the feeder and a worker do; here the feeder stops
        assert (reason() or "").startswith(told.format(name))
        assert http.get("/v1/jobs").json()["data"][0]["status_reason"] == reason()
        in_use = http.get("/v1/usage").json()["data"][0]["in_use"]
        assert (in_use["max_rows"], in_use["max_queued_tokens"]) == (2, 512)
        begin(1)
        assert reason() is None, "all of it has been issued"
        cancel(flat.settings, table, job_id)


def test_a_batch_that_waits_for_a_quota_says_so_and_keeps_its_job(flat: Flat) -> None:
    with flat.tenant("batches", {"max_stored_bytes": 10**6}) as http:
        body = {"model": IDLE_MODEL, "messages": [{"role": "user", "content": "x"}]}
        url = "/v1/chat/completions"
        line = {"custom_id": "a", "method": "POST", "url": url, "body": body}
        parts = {"file": ("in.jsonl", json.dumps(line).encode())}
        file_id = http.post("/v1/files", data={"purpose": "batch"}, files=parts).json()["id"]
        asked = {"input_file_id": file_id, "endpoint": url, "completion_window": "24h"}
        path = f"/v1/batches/{http.post('/v1/batches', json=asked).json()['id']}"
        wait_for(lambda: http.get(path).json()["status"] == "in_progress")
        extra = http.get(path).json()["penstock"]
        assert extra["status_reason"] is None
        Tenants(flat.settings.tenants_dir).change("batches", {"max_stored_bytes": 1})
        told = http.get(path).json()["penstock"]["status_reason"]
        assert told.startswith("quota_bytes: the tenant batches stores")
        [job_id] = extra["job_ids"]
        refused = http.delete(f"/v1/jobs/{job_id}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert "is a part of batch_" in refused.text, "it may be landed, and not rendered yet"
        http.post(f"{path}/cancel")
        wait_for(lambda: http.get(path).json()["status"] == "cancelled")
        assert http.delete(f"/v1/jobs/{job_id}").status_code == 200
        assert http.get(path).json()["status"] == "cancelled"


def _slots(tmp_path: Path, max_streams: int, patience_s: float = 30.0) -> StreamSlots:
    tenants = Tenants(tmp_path)
    tenants.change("acme", {"max_streams": max_streams})
    return StreamSlots(tenants, patience_s)


def test_a_stream_beyond_the_limit_waits_for_another_to_end(tmp_path: Path) -> None:
    async def work() -> None:
        slots = _slots(tmp_path, 1)
        mine, other = Principal("acme", key_id="key_1"), Principal("acme", key_id="key_2")
        give_back = await slots.take(mine)
        await slots.take(other)  # each key has its own
        await slots.take(Principal("free"))
        await slots.take(Principal("free"))
        turns = [asyncio.create_task(slots.take(mine)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(turn.done() for turn in turns)
        assert slots.num_open("acme") == 2
        give_back()
        give_back()  # twice does no harm
        second = await turns[0]
        await asyncio.sleep(0)
        assert not turns[1].done()
        turns[1].cancel()  # its client has left
        await asyncio.sleep(0)
        second()
        (await turns[2])()
        assert (slots.num_open("acme"), slots.num_open("free")) == (1, 2)
        (await slots.take(mine))()

    asyncio.run(work())


def test_a_place_is_not_lost_with_whoever_leaves_as_it_comes(tmp_path: Path) -> None:
    async def work() -> None:
        slots, mine = _slots(tmp_path, 1), Principal("acme")
        give_back = await slots.take(mine)
        turn = asyncio.create_task(slots.take(mine))
        await asyncio.sleep(0)
        give_back()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert slots.num_open("acme") == 0

    asyncio.run(work())


def test_who_waits_for_too_long_for_a_stream_is_told(tmp_path: Path) -> None:
    async def work() -> None:
        slots, mine = _slots(tmp_path, 1, patience_s=0.01), Principal("acme")
        give_back = await slots.take(mine)
        with pytest.raises(TooManyRequests, match="1 streams open") as refused:
            await slots.take(mine)
        assert (refused.value.status, refused.value.code) == (429, "too_many_streams")
        give_back()
        (await slots.take(mine))()
        assert slots.num_open("acme") == 0

    asyncio.run(work())


def test_nothing_is_kept_of_those_who_gave_up_waiting(tmp_path: Path) -> None:
    async def work() -> None:
        slots, mine = _slots(tmp_path, 1, patience_s=0.0), Principal("acme")
        give_back = await slots.take(mine)
        tries = (slots.take(mine) for _ in range(100))
        refused = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(each, TooManyRequests) for each in refused)
        assert not slots._waiting
        give_back()

    asyncio.run(work())


def test_a_lifted_limit_serves_those_who_wait_before_those_who_come(tmp_path: Path) -> None:
    async def work() -> None:
        slots, mine = _slots(tmp_path, 1), Principal("acme")
        await slots.take(mine)
        waiting = [asyncio.create_task(slots.take(mine)) for _ in range(2)]
        await asyncio.sleep(0)
        Tenants(tmp_path).change("acme", {"max_streams": 3})
        newcomer = asyncio.create_task(slots.take(mine))
        await asyncio.gather(*waiting)
        assert not newcomer.done()
        Tenants(tmp_path).change("acme", {"max_streams": 4})
        await newcomer  # nobody gave anything back
        assert slots.num_open("acme") == 4

    asyncio.run(work())


def test_every_kind_of_stream_takes_a_place(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of them keeps it: the next would wait for ever."""
    tenants = Tenants(tmp_path)  # not those of the stack, which others use
    tenants.change("default", {"max_streams": 1})
    app = create_app(stack.settings)
    asked: dict[str, Any] = {"model": MODEL, "stream": True}
    bodies: dict[str, Any] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
        "/v1/completions": {"prompt": "x"},
        "/v1/responses": {"input": "x"},
    }
    with serving(app) as url, httpx2.Client(base_url=url, timeout=60) as http:
        streams: StreamSlots = app.state.services.streams
        monkeypatch.setattr(streams, "_tenants", tenants)
        monkeypatch.setattr(streams, "_patience_s", 0.05)
        job = http.post("/v1/jobs", json=JOB).json()
        events = f"/v1/jobs/{job['id']}/events"
        with http.stream("GET", events) as watched:
            assert watched.status_code == 200
            assert streams.num_open("default") == 1
            for path, body in bodies.items():
                refused = http.post(path, json={**asked, **body})
                assert (refused.status_code, refused.json()["error"]["code"]) == (
                    429,
                    "too_many_streams",
                )
                assert http.post(path, json={**asked, **body, "stream": False}).status_code == 200
            assert http.get(events).status_code == 429
            assert http.get("/v1/overview/events").status_code == 429
        for path, body in bodies.items():
            wait_for(lambda: streams.num_open("default") == 0)
            assert http.post(path, json={**asked, **body}).status_code == 200
            wait_for(lambda: streams.num_open("default") == 0)
            wrong = http.post(path, json={**asked, **body, "max_tokens": -1})
            assert wrong.status_code == 400
        wait_for(lambda: streams.num_open("default") == 0)
        http.post(f"/v1/jobs/{job['id']}/cancel")
