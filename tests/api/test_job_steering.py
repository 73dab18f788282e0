"""Steering a job over REST, from Python and from the shell, against a real stack."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from penstock.api.async_client import AsyncClient
from penstock.api.client import Client, Job
from penstock.api.client_errors import BadRequest, Conflict, NotFound
from tests.waiting import wait_for

from .command import Penstock
from .conftest import IDLE_MODEL, MODEL, Stack

ROWS = [{"text": f"t{n}"} for n in range(3000)]  # more shards than a worker takes at a time


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url, max_retries=0) as client:
        yield client


def submit(client: Client, rows: list[dict[str, Any]] = ROWS, **options: Any) -> Job:
    options = {"model": MODEL, "prompt": "Say {{ row.text }}", **options}
    return client.jobs.submit(rows, **options)


def half_run(client: Client) -> Job:
    """A job that paused, of itself, after its first shard."""
    rows = [{"text": "[[fail]]"}, *ROWS[1:]]
    job = submit(client, rows, max_error_rate=0.0, error_rate_after=1)
    wait_for(lambda: job.refresh().status == "paused" and not job.counts.running)
    assert job.counts.pending > 0
    return job


class TestRest:
    def test_a_job_pauses_and_goes_on(self, http: httpx2.Client, client: Client) -> None:
        job = half_run(client)
        paused = http.post(f"/v1/jobs/{job.id}/pause").json()
        assert paused["status"] == "paused"
        assert paused["status_reason"].startswith("paused_by_user: ")
        still = http.get(f"/v1/jobs/{job.id}").json()
        assert still["status"] == "paused" and still["counts"]["pending"] > 0
        assert http.post(f"/v1/jobs/{job.id}/pause").json()["status"] == "paused"
        resumed = http.post(f"/v1/jobs/{job.id}/resume").json()
        assert resumed["status"] in ("queued", "running") and resumed["status_reason"] is None
        assert job.wait(timeout_s=60).counts.succeeded == len(ROWS) - 1
        left = http.post(f"/v1/jobs/{job.id}/resume").json()
        assert left["status"] == "completed_with_errors"
        with pytest.raises(Conflict, match=r"has ended .completed_with_errors.: there is"):
            job.pause()

    def test_a_change_is_seen_at_once(self, http: httpx2.Client, client: Client) -> None:
        job = submit(client, model=IDLE_MODEL, name="old", metadata={"a": "1"})
        path = f"/v1/jobs/{job.id}"
        changed = http.patch(path, json={"priority": 9, "deadline": 3600, "max_error_rate": 0.5})
        assert changed.status_code == 200, changed.text
        now = http.get(path).json()
        assert (now["priority"], now["name"], now["metadata"]) == (9, "old", {"a": "1"})
        assert 3500 < now["deadline"] - time.time() <= 3600 and now["max_error_rate"] == 0.5
        http.patch(path, json={"name": "new", "deadline": None, "metadata": {"b": "2"}})
        now = http.get(path).json()
        assert (now["name"], now["deadline"], now["metadata"]) == ("new", None, {"b": "2"})
        assert now["max_error_rate"] == 0.5
        http.post(f"{path}/cancel")
        refused = http.patch(path, json={"priority": 1})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "priority"
        assert "has ended" in refused.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"priority": "9"}, "priority"),
            ({"priority": 101}, "priority"),
            ({"deadline": "tomorrow"}, "deadline"),
            ({"deadline": "2001-01-01"}, "deadline"),
            ({"deadline": -1}, "deadline"),
            ({"model": "another"}, "model"),
        ],
    )
    def test_a_wrong_change_is_refused(
        self, http: httpx2.Client, client: Client, body: dict[str, Any], param: str
    ) -> None:
        job = submit(client, model=IDLE_MODEL)
        refused = http.patch(f"/v1/jobs/{job.id}", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        job.cancel()

    @pytest.mark.parametrize("verb", ["pause", "resume", "retry"])
    def test_an_unknown_job(self, http: httpx2.Client, verb: str) -> None:
        answer = http.post(f"/v1/jobs/job_00000000000000000000000000/{verb}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "job_not_found"

    @pytest.mark.parametrize(
        ("wish", "param"),
        [
            ({"deadline": 0}, "deadline"),
            ({"deadline": "2001-01-01T00:00:00Z"}, "deadline"),
            ({"completion_window": "a while"}, "completion_window"),
            ({"completion_window": "24h", "deadline": 3}, "deadline"),
            ({"max_error_rate": 1.5}, "max_error_rate"),
            ({"error_rate_after": -1}, "error_rate_after"),
        ],
    )
    def test_wrong_limits_are_refused(
        self, http: httpx2.Client, wish: dict[str, Any], param: str
    ) -> None:
        body = {"model": MODEL, "prompt": "x", "input": {"rows": [{"a": 1}]}, **wish}
        answer = http.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    def test_a_job_past_its_deadline_expires(self, http: httpx2.Client, client: Client) -> None:
        job = submit(client, ROWS[:3], model=IDLE_MODEL, deadline=0.3)
        assert job.wait(timeout_s=60).status == "expired"
        assert (job.counts.pending, job.counts.not_run) == (0, 3)
        assert (job.status_reason or "").startswith("deadline_exceeded: ")
        window = submit(client, ROWS[:3], model=IDLE_MODEL, completion_window="24h")
        assert window.record.deadline is not None
        hours = (window.record.deadline - datetime.now(UTC)) / timedelta(hours=1)
        assert 23.9 < hours <= 24
        window.cancel()

    def test_too_many_errors_pause_a_job(self, http: httpx2.Client, client: Client) -> None:
        rows = [{"text": "[[fail]]" if n % 2 else "fine"} for n in range(3000)]
        job = submit(client, rows, max_error_rate=0.1, error_rate_after=10)
        wait_for(lambda: job.refresh().status == "paused" and not job.counts.running)
        assert job.counts.pending > 0
        reason = job.status_reason or ""
        assert reason.startswith("error_rate: ") and "engine_error" in reason
        assert job.record.errors_by_code == {"engine_error": job.counts.failed}
        job.update(max_error_rate=None)
        assert job.refresh().status == "paused", "a change is no wish to go on"
        assert job.resume().wait(timeout_s=60).counts.failed == 1500


class TestRetry:
    def test_what_failed_runs_again_and_stands_in_its_place(self, client: Client) -> None:
        rows = [{"text": "[[fail]]" if n == 1 else f"t{n}"} for n in range(70)]
        job = submit(client, rows).wait(timeout_s=60)
        with pytest.raises(BadRequest, match="no row to retry that failed with worker_lost"):
            job.retry(codes=["worker_lost"])
        with pytest.raises(BadRequest, match="name at least one code, or leave codes out"):
            job.retry(codes=[])
        again = job.retry(codes=["engine_error"])
        assert (again.record.retry_of, again.counts.total) == (job.id, 1)
        again.wait(timeout_s=60)
        landed = job.to_arrow().to_pylist()
        assert [row["row_index"] for row in landed] == list(range(70))
        assert [row["attempts"] for row in landed] == [1, 2] + [1] * 68  # fails for ever, poor row
        assert landed[1]["error"]["code"] == "engine_error"
        assert job.refresh().status == "completed_with_errors"

    def test_what_was_not_run_is_run(self, client: Client) -> None:
        job = half_run(client)
        with pytest.raises(BadRequest, match="has not ended"):
            job.retry()
        job.cancel()
        assert job.counts.not_run > 0
        job.retry().wait(timeout_s=60)
        assert job.refresh().status == "completed_with_errors"
        assert (job.counts.succeeded, job.counts.failed) == (len(ROWS) - 1, 1)
        assert [row["row_index"] for row in job.results()] == list(range(len(ROWS)))


class TestPython:
    def test_the_clients_are_twins(self, stack: Stack) -> None:
        async def steer() -> None:
            client = AsyncClient(stack.url)
            async with client:
                job = await client.jobs.submit(ROWS[:2], model=IDLE_MODEL, prompt="x")
                assert (await job.pause()).status == "paused"
                assert (await client.jobs.pause(job.id)).status == "paused"
                assert (await job.resume()).status == "queued"
                assert (await client.jobs.resume(job.id)).status == "queued"
                deadline = datetime.now(UTC) + timedelta(hours=1)
                await job.update(priority=4, deadline=deadline)
                assert job.record.priority == 4
                assert abs((job.record.deadline or deadline) - deadline) < timedelta(seconds=1)
                assert (await client.jobs.update(job.id, name="n")).name == "n"
                with pytest.raises(TypeError, match="'model' of a job cannot be changed"):
                    await job.update(model="x")  # pyright: ignore[reportCallIssue]
                await job.cancel()
                again = await job.retry()
                assert again.record.retry_of == job.id
                assert (await client.jobs.retry(job.id)).id == again.id
                await again.cancel()

        asyncio.run(steer())

    def test_the_blocking_one(self, client: Client) -> None:
        job = submit(client, ROWS[:2], model=IDLE_MODEL)
        assert client.jobs.pause(job.id).status == "paused"
        assert client.jobs.resume(job.id).status == "queued"
        assert client.jobs.update(job.id, priority=2).record.priority == 2
        client.jobs.cancel(job.id)
        again = client.jobs.retry(job.id)
        assert again.counts.total == 2
        again.cancel()


class TestShell:
    def test_the_verbs(self, penstock: Penstock, stack: Stack, client: Client) -> None:
        def tell(*arguments: str) -> dict[str, Any]:
            run = penstock(*arguments, "--url", stack.url)
            assert run.code == 0, run.err
            return json.loads(run.out)

        job_id = submit(client, ROWS[:2], model=IDLE_MODEL).id
        assert tell("pause", job_id)["status"] == "paused"
        assert tell("resume", job_id)["status"] == "queued"
        assert tell("priority", job_id, "7")["priority"] == 7
        told = tell("update", job_id, "--name", "n", "--deadline", "60", "--max-error-rate", "0.5")
        assert (told["name"], told["max_error_rate"], told["priority"]) == ("n", 0.5, 7)
        assert told["deadline"] is not None
        assert tell("update", job_id, "--no-deadline")["deadline"] is None
        tell("cancel", job_id)
        again = tell("retry", job_id)
        assert again["retry_of"] == job_id
        tell("cancel", again["id"])

    def test_what_cannot_be_done_is_said(
        self, penstock: Penstock, stack: Stack, client: Client
    ) -> None:
        job = submit(client, ROWS[:2]).wait(timeout_s=60)
        run = penstock("pause", job.id, "--url", stack.url)
        assert (run.code, "nothing to pause" in run.err) == (0, True)
        run = penstock("resume", job.id, "--url", stack.url)
        assert "penstock retry" in run.err
        run = penstock("retry", job.id, "--url", stack.url)
        assert (run.code, "no row to retry" in run.err) == (2, True)
        run = penstock("update", job.id, "--url", stack.url)
        assert (run.code, "nothing to change" in run.err) == (2, True)

    def test_a_person_is_told_why_a_job_pauses(
        self, penstock: Penstock, stack: Stack, client: Client
    ) -> None:
        job = submit(client, ROWS[:2], model=IDLE_MODEL).pause()
        run = penstock("show", job.id, "--url", stack.url, "-o", "table")
        assert "because" in run.out and "paused_by_user" in run.out
        job.cancel()
        run = penstock("show", job.id, "--url", stack.url, "-o", "table")
        assert "not run" in run.out


def test_an_ended_job_is_deleted_from_wherever_one_sits(
    penstock: Penstock, stack: Stack, client: Client
) -> None:
    jobs = [submit(client, ROWS[:2]) for _ in range(3)]
    running = submit(client, model=IDLE_MODEL)
    with pytest.raises(Conflict, match="cancel it first"):
        client.jobs.delete(running.id)
    running.cancel()
    for job in jobs:
        job.wait(timeout_s=60)

    async def delete() -> None:
        async with AsyncClient(stack.url) as twin:
            await twin.jobs.delete(jobs[0].id)

    asyncio.run(delete())
    client.jobs.delete(jobs[1].id)
    deleted = penstock("delete", jobs[2].id, "--url", stack.url)
    assert (deleted.code, "is removed" in deleted.err) == (0, True)
    for job in jobs:
        with pytest.raises(NotFound):
            job.refresh()
    assert penstock("delete", jobs[2].id, "--url", stack.url).code != 0
