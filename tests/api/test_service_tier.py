"""What `service_tier` asks for: "flex" and "batch" wait with the rows of jobs, others overtake."""

import threading
from typing import Any

import httpx2
import openai
import pytest

from penstock.jobs.fake_engine import expected_text
from tests.waiting import wait_for

from .conftest import MODEL, Stack

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def worker(http: httpx2.Client) -> dict:
    """Look at the only worker, as soon as it has a heartbeat."""
    [found] = wait_for(lambda: http.get("/v1/workers").json()["data"], "a heartbeat")
    return found


def until_running(http: httpx2.Client, rows: int) -> None:
    wait_for(lambda: worker(http)["running_rows"] == rows, f"{rows} rows to run")


@pytest.mark.parametrize("tier", ["flex", "batch"])
def test_a_patient_request_gets_no_reserved_room(
    stack: Stack, client: openai.OpenAI, http: httpx2.Client, tier: Any
) -> None:
    """Every slot is held by rows that do not end: who is patient waits until they are gone."""
    until_running(http, 0)  # a heartbeat may still tell of what an earlier test began
    slots = worker(http)["slots"]
    rows = [{"say": "[[long]]"}] * (slots + 8)
    body = {"model": MODEL, "input": {"rows": rows}, "prompt": "{{ row.say }}"}
    job_id = http.post("/v1/jobs", json=body).json()["id"]
    answers: list[Any] = []

    def ask_patiently() -> None:
        with stack.sync_openai() as patient:
            ask = patient.chat.completions.create
            answers.append(ask(model=MODEL, messages=MESSAGES, service_tier=tier))

    thread = threading.Thread(target=ask_patiently)
    try:
        until_running(http, slots)
        num_waiting = worker(http)["waiting_rows"]
        thread.start()
        wait_for(lambda: worker(http)["waiting_rows"] > num_waiting, "the engine to have it")
        urgent = client.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert urgent.choices[0].message.content == expected_text("hi", num_tokens=8)
        assert answers == []
    finally:
        http.post(f"/v1/jobs/{job_id}/cancel")
    thread.join(60)
    [patient] = answers
    assert patient.choices[0].message.content == expected_text("hi", num_tokens=8)
    assert patient.service_tier == tier
    until_running(http, 0)


def test_the_tier_is_told_where_it_was_asked_for(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, service_tier="flex")
    assert whole.service_tier == "flex"
    auto = client.chat.completions.create(model=MODEL, messages=MESSAGES, service_tier="auto")
    assert auto.service_tier == "default"
    silent = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert silent.service_tier is None
    ask = client.chat.completions.create
    with ask(model=MODEL, messages=MESSAGES, service_tier="flex", stream=True) as stream:
        assert {chunk.service_tier for chunk in stream} == {"flex"}
