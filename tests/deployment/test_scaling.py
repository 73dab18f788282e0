"""What an autoscaler does to a job: no worker at first, one that is told to go, another one."""

import signal
from dataclasses import replace
from pathlib import Path

import httpx2

from penstock.api.app import create_app
from penstock.jobs.settings import Settings
from tests.api.conftest import worker_process
from tests.api.serving import serving
from tests.waiting import wait_for

MODEL = "fake:step_ms=10,tokens=20"
NUM_ROWS = 1_280  # more than ten seconds for the first worker, which takes few at a time


def backlog(http: httpx2.Client) -> int:
    lines = http.get("/metrics").text.splitlines()
    name = f'penstock_backlog_rows{{model="{MODEL}"}}'
    [line] = [each for each in lines if each.startswith(name)]
    return int(float(line.rpartition(" ")[2]))


def test_a_job_outlives_every_worker(settings_of_stack: Settings, tmp_path: Path) -> None:
    settings = replace(
        settings_of_stack,
        data=str(tmp_path / "data"),
        namespace="scaling",
        models=(MODEL,),
        max_num_seqs=16,
        grace_s=0.2,
    )
    job = {"model": MODEL, "prompt": "{{ row.a }}"}
    rows = [{"a": f"row {number}"} for number in range(NUM_ROWS)]
    with serving(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=60) as http:
        assert backlog(http) == 0
        made = http.post("/v1/jobs", json={**job, "input": {"rows": rows}}).json()["id"]
        assert backlog(http) == NUM_ROWS, "which calls for a worker"

        def landed() -> int:
            return http.get(f"/v1/jobs/{made}").json()["counts"]["succeeded"]

        with worker_process(settings, MODEL, tmp_path / "first.log") as first:
            wait_for(lambda: 0 < landed() < NUM_ROWS, "a first shard to land")
            first.send_signal(signal.SIGTERM)
            assert first.wait(60) == 0
        left = backlog(http)
        assert left == NUM_ROWS - landed() > 0, "which calls for another one"
        with worker_process(replace(settings, max_num_seqs=256), MODEL, tmp_path / "second.log"):
            wait_for(lambda: http.get(f"/v1/jobs/{made}").json()["status"] == "completed", made)
        assert (landed(), backlog(http)) == (NUM_ROWS, 0), "now all may go"
