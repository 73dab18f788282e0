"""What a job tells while it runs, and tells again to whoever was away."""

from typing import Any

import httpx2
import pytest

from .conftest import Stack
from .plain_jobs import events, rows, submit, three_shards


@pytest.fixture(scope="module")
def finished(stack: Stack) -> dict[str, Any]:
    with stack.http() as http:
        return three_shards(http)


def test_events_tell_a_job_to_its_end_and_can_be_resumed(http: httpx2.Client) -> None:
    job = submit(http, input={"rows": rows(200)})
    with http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = list(events(answer))
    assert seen[0][1] == "job.status"
    assert seen[0][2]["id"] == job["id"]
    assert seen[-1][1] == "done"
    assert seen[-1][2]["status"] == "completed"
    assert seen[-1][2]["counts"]["succeeded"] == 200
    numbered = [event_id for event_id, _, _ in seen if event_id]
    if len(numbered) > 1:
        path = f"/v1/jobs/{job['id']}/events"
        with http.stream("GET", path, headers={"last-event-id": numbered[0]}) as answer:
            again = list(events(answer))
        assert again[-1][1] == "done"
        assert numbered[0] not in [event_id for event_id, _, _ in again]
    assert (
        http.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": "x\u0020y"}).status_code
        == 400
    )


def test_events_that_were_missed_are_sent_although_the_job_has_ended(
    http: httpx2.Client, finished: dict[str, Any]
) -> None:
    path = f"/v1/jobs/{finished['id']}/events"
    with http.stream("GET", path, headers={"last-event-id": "0-0"}) as answer:
        seen = list(events(answer))
    assert [kind for _, kind, _ in seen].count("shard.landed") == 3
    assert seen[-1][1] == "done"
    assert all(event_id for event_id, _, _ in seen)


def test_events_of_a_job_that_ended_long_ago(http: httpx2.Client, finished: dict[str, Any]) -> None:
    with http.stream("GET", f"/v1/jobs/{finished['id']}/events") as answer:
        kinds = [kind for _, kind, _ in events(answer)]
    assert kinds == ["job.status", "done"]
