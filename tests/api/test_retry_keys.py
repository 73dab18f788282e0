"""A retry that is asked for again under its `Idempotency-Key` is made once, over HTTP too."""

import httpx2

from penstock.api.client import Client

from .conftest import MODEL, Stack
from .test_workflow_aftermath import FAILING

HEADERS = {"Idempotency-Key": "once, please"}


def test_a_job_is_retried_once(http: httpx2.Client, stack: Stack) -> None:
    with Client(stack.url) as client:
        job = client.jobs.submit([{"text": "[[fail]]"}], prompt="{{ row.text }}", model=MODEL)
        job.wait(timeout_s=60)
        path = f"/v1/jobs/{job.id}/retry"
        made = http.post(path, headers=HEADERS).json()["id"]
        client.jobs.get(made).wait(timeout_s=60)
        assert http.post(path, headers=HEADERS).json()["id"] == made
        assert http.post(path).json()["id"] != made


def test_a_run_is_retried_once(http: httpx2.Client, stack: Stack) -> None:
    with Client(stack.url) as client:
        run = client.workflows.run(FAILING, {"texts": [{"text": "x", "size": 3}]})
        path = f"/v1/workflows/runs/{run.wait(timeout_s=60).id}/retry"
        made = http.post(path, headers=HEADERS).json()["id"]
        client.workflows.get(made).wait(timeout_s=60)
        assert http.post(path, headers=HEADERS).json()["id"] == made
        other = client.workflows.run(FAILING, {"texts": [{"text": "y", "size": 3}]})
        path = f"/v1/workflows/runs/{other.wait(timeout_s=60).id}/retry"
        refused = http.post(path, headers=HEADERS)
        assert (refused.status_code, refused.json()["error"]["param"]) == (409, "idempotency_key")
