"""A sample of an event: one at a time of a tenant, and nobody waits for a client that has left."""

import asyncio
import threading

import httpx2

from tests.waiting import wait_for

from .conftest import Stack
from .test_webhooks import receiver

PATIENCE_S = 60.0


def test_a_second_sample_waits_for_the_first_to_be_answered(stack: Stack) -> None:
    may_answer = threading.Event()

    def answer(_: int) -> int:
        may_answer.wait(PATIENCE_S)
        return 204

    asked = {"name": "a", "event_types": ["batch.completed"]}
    sample = {"event_type": "batch.completed"}
    with receiver(answer) as (url, received), stack.http(PATIENCE_S) as http:
        made = http.post("/v1/webhook_endpoints", json={**asked, "url": url}).json()["id"]
        path = f"/v1/webhook_endpoints/{made}/test"

        async def leave_early() -> None:
            async with httpx2.AsyncClient(base_url=stack.url, timeout=PATIENCE_S) as guest:
                leaver = asyncio.create_task(guest.post(path, json=sample))
                await asyncio.to_thread(wait_for, lambda: received)
                leaver.cancel()
                await asyncio.wait({leaver})

        try:
            asyncio.run(leave_early())
            wait_for(lambda: _num_gone(http, path) > 0)  # its place here is free before the answer
            refused = http.post(path, json=sample)
            assert refused.status_code == 429, refused.text
            assert "another sample" in refused.json()["error"]["message"]
            assert refused.headers["retry-after"] == "1"
        finally:
            may_answer.set()
        answers: list[httpx2.Response] = []

        def is_sent() -> bool:
            answers.append(http.post(path, json=sample))
            return answers[-1].status_code == 200

        wait_for(is_sent)
        assert answers[-1].json()["status_code"] == 204
        assert len(received) == 2
        http.delete(f"/v1/webhook_endpoints/{made}")


def _num_gone(http: httpx2.Client, path: str) -> float:
    route = 'route="/v1/webhook_endpoints/{endpoint_id}/test",status="499"'
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if route in line)
