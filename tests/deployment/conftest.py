"""One real stack for all files here: Redis, an API behind uvicorn, a worker that has run a job."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from tests.api.conftest import worker_process
from tests.api.serving import serving
from tests.waiting import wait_for

MODEL = "fake:tokens=8"
IDLE_MODEL = "fake:nobody-serves-this"


@pytest.fixture(scope="session")
def settings_of_stack(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    data: Path = tmp_path_factory.mktemp("deployment")
    with RedisServer(data / "redis", program=redis_server.program) as own:
        settings = Settings(
            data=str(data), redis_url=own.url, models=(MODEL, IDLE_MODEL), lease_s=10.0
        )
        with worker_process(settings, MODEL, data / "worker.log"):
            yield settings


@pytest.fixture(scope="session")
def api(settings_of_stack: Settings) -> Iterator[str]:
    """The address of an API that has served a job with a failed row and a chat; one job waits."""
    with (
        serving(create_app(settings_of_stack)) as url,
        httpx2.Client(base_url=url, timeout=60) as http,
    ):
        wait_for(lambda: http.get("/readyz").status_code == 200, "the stack to be ready")
        job = {"model": MODEL, "prompt": "{{ row.a }}", "input": {"rows": [{"a": "[[fail]]"}]}}
        job_id = http.post("/v1/jobs", json=job).json()["id"]
        http.post("/v1/jobs", json={**job, "model": IDLE_MODEL})
        chat = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        http.post("/v1/chat/completions", json=chat)
        wait_for(
            lambda: http.get(f"/v1/jobs/{job_id}").json()["status"].startswith("completed"),
            "the job to end",
        )
        wait_for(lambda: 'code="engine_error"' in http.get("/metrics").text, "a heartbeat")
        yield url
