"""Responses in the background are jobs: whatever dies meanwhile, they are completed and found."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from penstock.api.app import create_app
from penstock.api.background_responses import BackgroundResponses
from penstock.api.response_book import UnknownResponse
from penstock.api.response_schemas import ResponsesRequest
from penstock.jobs.ending import cancel, end
from penstock.jobs.errors import JobBusy
from penstock.jobs.fake_engine import expected_text
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.model import JobState
from penstock.jobs.redis_client import connect
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, MODEL, Stack
from .serving import serving
from .test_response_tools import CALL, TOOL


def done(client: openai.OpenAI, response_id: str, status: str = "completed") -> Any:
    wait_for(lambda: client.responses.retrieve(response_id).status == status)
    return client.responses.retrieve(response_id)


def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_in_the_background(client: openai.OpenAI) -> None:
    asked: Any = {"input": "hi", "instructions": "be brief", "metadata": {"a": "b"}}
    response = client.responses.create(model=MODEL, background=True, **asked)
    assert response.status in ("queued", "in_progress")
    found = done(client, response.id)
    direct = client.responses.create(model=MODEL, **asked)
    assert found.output_text == direct.output_text == expected_text("be brief\nhi", num_tokens=8)
    changes = {"id", "created_at", "completed_at", "background", "output"}
    assert found.to_dict().keys() == direct.to_dict().keys()
    for name in found.to_dict().keys() - changes:
        assert found.to_dict()[name] == direct.to_dict()[name], name
    assert found.background and found.completed_at
    assert client.responses.retrieve(response.id) == found, "the ids of its items, too"
    assert client.responses.cancel(response.id).status == "completed"
    client.responses.delete(response.id)
    for call in (client.responses.retrieve, client.responses.cancel, client.responses.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            call(response.id)
        assert caught.value.code == "response_not_found"


def test_it_calls_tools_and_is_cut_as_others_are(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "background": True, "tools": [TOOL]}
    response = client.responses.create(input=f"[[say]]{CALL}", **asked)
    [item] = done(client, response.id).output
    assert (item.type, item.name, item.arguments) == ("function_call", "look", '{"at": "it"}')
    cut = client.responses.create(
        model=MODEL, background=True, input="hi", max_output_tokens=2, temperature=0.5, top_p=0.9
    )
    assert done(client, cut.id).output_text == expected_text("hi", num_tokens=2)


def test_a_failure_is_told_on_retrieval(client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="[[fail]]", background=True)
    failed = done(client, response.id, "failed")
    assert failed.error is not None
    assert "asked for it" in failed.error.message
    assert failed.output == []


def test_cancelling_stops_the_engine(client: openai.OpenAI, http: httpx2.Client) -> None:
    def num_running() -> int:
        workers = http.get("/v1/workers").json()["data"]
        return sum(worker["running_rows"] for worker in workers)

    response = client.responses.create(model=MODEL, input="[[long]]", background=True)
    wait_for(lambda: num_running() > 0)
    assert client.responses.cancel(response.id).status == "cancelled"
    wait_for(lambda: num_running() == 0)
    assert client.responses.retrieve(response.id).status == "cancelled"
    client.responses.delete(response.id)


def test_it_outlives_the_process_that_took_it(stack: Stack, tmp_path: Path) -> None:
    """And a wiped Redis: the job is on disk, and any process that serves the API finds it."""
    settings = replace(stack.settings, data=str(tmp_path), namespace="background")
    asked: Any = {"model": IDLE_MODEL, "input": "hi", "background": True}
    asked["extra_headers"] = {"idempotency-key": "once"}
    with serving(create_app(settings)) as url, _client(url) as client:
        response = client.responses.create(**asked)
        assert client.responses.create(**asked).id == response.id
        with pytest.raises(openai.BadRequestError, match="another response"):
            client.responses.create(**asked, temperature=0.5)
    with connect(settings) as redis:
        for key in redis.scan_iter("background:*"):
            redis.delete(key)
    with serving(create_app(settings)) as url, _client(url) as client:
        assert client.responses.retrieve(response.id).status == "queued"
        wait_for(lambda: len(httpx2.get(f"{url}/v1/jobs", timeout=60).json()["data"]) == 1)
        assert client.responses.cancel(response.id).status == "cancelled"


def test_a_response_that_lands_is_deleted_when_it_has(stack: Stack, tmp_path: Path) -> None:
    settings = replace(stack.settings, data=str(tmp_path), namespace="landing")
    with connect(settings) as redis, ThreadPoolExecutor(1) as pool:
        keys = Keys(settings.namespace)
        table = JobTable(redis, keys)
        body = ResponsesRequest.model_validate(
            {"model": IDLE_MODEL, "input": "hi", "background": True}
        )
        hasty = BackgroundResponses(settings, table, landing_patience_s=0.0)
        response = json.loads(hasty.start("default", body, priority=0).shown)["id"]
        job_id = response.replace("resp_", "job_")
        redis.hset(keys.job(job_id), "state", "landing")  # as when its only row has come
        with pytest.raises(JobBusy):
            hasty.delete(response, "default")
        patient = BackgroundResponses(settings, table, landing_patience_s=30.0)
        deleting = pool.submit(patient.delete, response, "default")
        end(settings, table, job_id, JobState.COMPLETED)
        deleting.result(30)
        with pytest.raises(UnknownResponse):
            patient.get(response, "default")


def test_a_key_of_a_response_is_no_key_of_a_job_and_makes_one(stack: Stack, tmp_path: Path) -> None:
    settings = replace(stack.settings, data=str(tmp_path), namespace="keys")
    asked = {"model": IDLE_MODEL, "input": "hi", "background": True}
    rows = {"model": IDLE_MODEL, "prompt": "x", "input": {"rows": [{"a": 1}]}}
    with serving(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=60) as http:

        def send(key: str, **changes: Any) -> httpx2.Response:
            headers = {"idempotency-key": key}
            return http.post("/v1/responses", json={**asked, **changes}, headers=headers)

        for key in ("once", "response:once"):
            made = http.post("/v1/jobs", json={**rows, "idempotency_key": key})
            assert made.status_code == 202
        first = send("once")
        assert first.status_code == 200, first.text
        assert send("once").json()["id"] == first.json()["id"]
        other = send("once", model=MODEL)
        assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
        assert send("x" * 512).status_code == 200
        assert send("x" * 513).status_code == 400
        counted = [
            float(line.rsplit(" ", 1)[1])
            for line in http.get("/metrics").text.splitlines()
            if line.startswith("penstock_jobs_") and "_total{" in line and IDLE_MODEL in line
        ]
        assert counted == [4.0], "what was made before is not counted again"


def test_nobody_elses_is_found_nor_what_only_looks_like_one(stack: Stack) -> None:
    with stack.http() as http, connect(stack.settings) as redis:
        table = JobTable(redis, Keys(stack.settings.namespace))
        background = BackgroundResponses(stack.settings, table)
        body = {"model": IDLE_MODEL, "input": "hi", "background": True}
        made = http.post("/v1/responses", json=body).json()["id"]
        assert background.get(made, "default")
        for call in (background.get, background.cancel, background.delete):
            with pytest.raises(UnknownResponse):
                call(made, "other")
        cancel(stack.settings, table, made.replace("resp_", "job_"))
        looks = {"penstock": "response"}
        for metadata, row in (({}, {"a": 1}), (looks, {"a": 1}), ({}, {"response": {"a": 1}})):
            task = {"model": IDLE_MODEL, "prompt": "x", "input": {"rows": [row]}}
            job = http.post("/v1/jobs", json={**task, "metadata": metadata}).json()
            answer = http.get(f"/v1/responses/{job['id'].replace('job_', 'resp_')}")
            assert answer.json()["error"]["code"] == "response_not_found"
            http.post(f"/v1/jobs/{job['id']}/cancel")
        missing = f"resp_{'0' * 26}"
        assert http.get(f"/v1/responses/{missing}").status_code == 404
