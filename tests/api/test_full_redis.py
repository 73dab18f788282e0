"""A job is accepted when it is on disk, whatever the job table has room for just then."""

import time
from collections.abc import Iterator

import pytest
import redis

from .conftest import MODEL, Stack
from .plain_jobs import wait


@pytest.fixture
def full_redis(stack: Stack) -> Iterator[redis.Redis]:
    assert stack.settings.redis_url is not None
    with redis.Redis.from_url(stack.settings.redis_url) as client:
        client.config_set("maxmemory", 1)
        try:
            yield client
        finally:
            client.config_set("maxmemory", 0)


def test_a_job_that_the_table_has_no_room_for_is_accepted(
    stack: Stack, full_redis: redis.Redis
) -> None:
    body = {"model": MODEL, "prompt": "{{ row.text }}", "input": {"rows": [{"text": "one"}]}}
    with stack.http() as http:
        answer = http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        job = answer.json()
        assert (job["status"], job["counts"]["pending"]) == ("queued", 1)
        unlisted = http.get(f"/v1/jobs/{job['id']}")
        assert unlisted.status_code == 503, unlisted.text
        assert unlisted.json()["error"]["code"] == "queue_unavailable"
        full_redis.config_set("maxmemory", 0)
        deadline = time.monotonic() + 60
        while http.get(f"/v1/jobs/{job['id']}").status_code == 503:
            assert time.monotonic() < deadline, "the table never learnt of the job"
            time.sleep(0.1)
        assert wait(http, job["id"])["status"] == "completed"


def test_a_job_that_nobody_made_is_still_unknown(stack: Stack) -> None:
    with stack.http() as http:
        assert http.get("/v1/jobs/job_00000000000000000000000000").status_code == 404
