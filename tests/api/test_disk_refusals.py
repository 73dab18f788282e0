"""What clients are told of a job whose disk, or lock, does not come to an end."""

from typing import Any

import httpx2
import redis

from penstock.jobs.control import job_lock
from penstock.jobs.job_dir import JobDir
from penstock.jobs.keys import Keys

from ..jobs.live import wait_for
from .conftest import IDLE_MODEL, Stack

TASK = {"model": IDLE_MODEL, "prompt": "{{ row.text }}", "input": {"rows": [{"text": "hi"}]}}
WORKFLOW = {
    "version": 1,
    "name": "asked",
    "inputs": {"texts": {}},
    "defaults": {"model": IDLE_MODEL},
    "steps": [{"id": "said", "type": "generate", "prompt": "{{ row.text }}"}],
}
RUN = {"workflow": WORKFLOW, "inputs": {"texts": {"rows": [{"text": "hi"}]}}}
RESPONSE = {"model": IDLE_MODEL, "input": "hi"}


def test_a_job_that_another_process_is_changing_is_worth_another_try(
    http: httpx2.Client, stack: Stack
) -> None:
    job = http.post("/v1/jobs", json=TASK).json()
    path = f"/v1/jobs/{job['id']}/pause"
    with job_lock(JobDir(stack.settings.jobs_dir, job["id"])):
        answer = http.post(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "job_busy")
    assert "retry-after" in answer.headers and "x-should-retry" not in answer.headers
    assert http.post(path).json()["status"] == "paused"
    http.post(f"/v1/jobs/{job['id']}/cancel")


def test_a_disk_that_does_not_answer_is_told_and_hides_no_job(
    http: httpx2.Client, stack: Stack
) -> None:
    job = http.post("/v1/jobs", json=TASK).json()
    spec = JobDir(stack.settings.jobs_dir, job["id"]).spec
    aside = spec.rename(spec.with_name("aside"))
    spec.mkdir()  # the system refuses to read this, and not because it is gone or damaged
    answer = http.get(f"/v1/jobs/{job['id']}/results")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert job["id"] in [each["id"] for each in http.get("/v1/jobs").json()["data"]]
    spec.rmdir()
    aside.rename(spec)
    assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"


def test_nothing_is_accepted_on_a_disk_that_is_not_the_queues(
    http: httpx2.Client, stack: Stack
) -> None:
    job = http.post("/v1/jobs", json=TASK).json()
    http.post(f"/v1/jobs/{job['id']}/cancel")
    lines = {"file": ("in.jsonl", b"{}")}
    file_id = http.post("/v1/files", data={"purpose": "batch"}, files=lines).json()["id"]
    batch = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    upload = {"filename": "a", "purpose": "batch", "bytes": 3, "mime_type": "text/plain"}
    key = Keys(stack.settings.namespace).installation
    with redis.Redis.from_url(str(stack.settings.redis_url), decode_responses=True) as client:
        home: Any = wait_for(lambda: client.get(key), "the queue to know its data directory")
        client.set(key, "another")
        try:
            refused = wait_for(lambda: refusal(http), "the API to notice")
            others = [
                http.post("/v1/batches", json=batch),
                http.post("/v1/uploads", json=upload),
                http.post("/v1/files", data={"purpose": "batch"}, files=lines),
                http.post(f"/v1/jobs/{job['id']}/retry"),
                http.delete(f"/v1/jobs/{job['id']}"),
                http.post("/v1/jobs/validate", json=TASK),
                http.post("/v1/workflows", json={"workflow": WORKFLOW}),
                http.delete("/v1/workflows/asked"),
                http.post("/v1/workflows/runs", json=RUN),
                http.post("/v1/workflows/preview", json={**RUN, "wait": 0}),
                http.post("/v1/workflows/runs/run_1/retry"),
                http.delete("/v1/workflows/runs/run_1"),
                http.post("/v1/responses", json={**RESPONSE, "background": True}),
                http.delete("/v1/responses/resp_00000000000000000000000000"),
            ]
        finally:
            client.set(key, home)
    assert refused == (503, "storage_unavailable")
    for answer in others:
        assert (answer.status_code, answer.json()["error"]["code"]) == refused
    assert http.get(f"/v1/jobs/{job['id']}").status_code == 200
    wait_for(lambda: refusal(http) is None, "the API to take jobs again")


def refusal(http: httpx2.Client) -> tuple[int, str] | None:
    """Send a job; return how it was refused, if it was."""
    answer = http.post("/v1/jobs", json=TASK)
    if answer.status_code == 202:
        http.post(f"/v1/jobs/{answer.json()['id']}/cancel")
        return None
    return answer.status_code, answer.json()["error"]["code"]
