"""What a worker answers to whoever would restart it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from penstock.jobs.worker_health import WorkerHealth, ready
from penstock.jobs.workers import PROOF_MAX_AGE_MS
from tests.waiting import wait_for

from .live import Live, live_queue

_RUN = """
import sys
from penstock.jobs.settings import Settings
from penstock.jobs.worker import run_worker
sys.exit(run_worker(Settings.load(), sys.argv[1], health=(sys.argv[2], int(sys.argv[3]))))
"""
HOST = "127.0.0.77"  # where nobody else takes ports: one that was free a moment ago still is


def status_of(url: str) -> int:
    try:
        return httpx2.get(url, timeout=10).status_code
    except httpx2.TransportError:
        return 0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return probe.getsockname()[1]


def test_a_worker_is_alive_before_it_is_ready_and_while_redis_is_away(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_text("sound")
    with live_queue(tmp_path, lease_s=2.0, grace_s=1.0) as live:
        port = free_port()
        url = f"http://{HOST}:{port}"
        worker = start_worker(live, port, weights)
        wait_for(lambda: status_of(f"{url}/readyz") == 200, "the worker to be ready")
        assert status_of(f"{url}/healthz") == 200
        answer = httpx2.get(f"{url}/elsewhere")
        assert answer.status_code == 404
        assert answer.json() == {"status": "there are /healthz and /readyz"}
        os.kill(live.server.pid or 0, signal.SIGSTOP)
        try:
            assert status_of(f"{url}/healthz") == status_of(f"{url}/readyz") == 200
        finally:
            os.kill(live.server.pid or 0, signal.SIGCONT)
        wait_for(lambda: live.info(worker), "the worker to be listed")
        weights.write_text("rotten")  # so that no other engine serves before the loss was seen
        os.kill(live.engine_pid(worker), signal.SIGKILL)
        wait_for(lambda: status_of(f"{url}/readyz") == 503, "the loss to be seen")
        assert status_of(f"{url}/healthz") == 200
        weights.write_text("sound")
        wait_for(lambda: status_of(f"{url}/readyz") == 200, "another engine")


def start_worker(live: Live, port: int, weights: Path) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, **live.settings.to_environ(), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _RUN, f"fake:weights={weights}", HOST, str(port)]
    worker = subprocess.Popen(command, env=environ)
    live.workers.append(worker)
    return worker


def station(**changes: Any) -> Any:
    now_ms = time.time() * 1000
    engine = {"ready": object(), "progress": SimpleNamespace(proved_at_ms=now_ms), "trouble": None}
    engine |= {"is_attended": True, **changes}
    reporter = SimpleNamespace(is_draining=engine.pop("is_draining", False))
    return SimpleNamespace(engine=SimpleNamespace(**engine), reporter=reporter)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "ready"),
        ({"ready": None}, "the engine is being loaded"),
        ({"ready": None, "trouble": "corrupt: no header"}, "corrupt: no header"),
        ({"is_draining": True}, "the worker stops"),
        (
            {"progress": SimpleNamespace(proved_at_ms=time.time() * 1000 - PROOF_MAX_AGE_MS)},
            "no row came through the engine in the last 30 s",
        ),
    ],
)
def test_a_worker_says_what_it_waits_for(changes: dict[str, Any], told: str) -> None:
    status, text = ready(station(**changes))
    assert text == told
    assert (status == 200) is (told == "ready")


@pytest.mark.parametrize(("is_attended", "status"), [(True, 200), (False, 503)])
def test_only_a_restart_helps_an_engine_that_nobody_looks_after(
    is_attended: bool, status: int
) -> None:
    with WorkerHealth(station(is_attended=is_attended), "127.0.0.1", 0) as health:
        answer = httpx2.get(f"http://127.0.0.1:{health.address[1]}/healthz?from=outside")
        assert answer.status_code == status
        assert json.loads(answer.text)["status"]


def test_an_address_that_is_taken_is_told_in_a_line(tmp_path: Path) -> None:
    with live_queue(tmp_path) as live, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environ = {**os.environ, **live.settings.to_environ()}
        command = [sys.executable, "-m", "penstock.api.cli", "worker", "--model", "fake:"]
        done = subprocess.run(
            [*command, "--health", f"127.0.0.1:{port}"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        told = f"health checks cannot be answered at 127.0.0.1:{port}: Address already in use"
        assert f"penstock: {told}" in done.stderr
