"""Health, readiness, metrics, the key, and what the API process must never load."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings

from .conftest import MODEL, Stack
from .serving import serving

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
JOB = {"model": MODEL, "input": {"rows": [{"a": 1}]}, "prompt": "{{ row.a }}"}


def test_a_serving_stack_is_alive_and_ready(http: httpx2.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready", "models": [MODEL]}


def test_workers_tell_who_they_are(http: httpx2.Client) -> None:
    [worker] = http.get("/v1/workers").json()["data"]
    assert worker["model"] == MODEL
    assert worker["revision"] == "made-up"
    assert worker["pid"] > 0
    assert worker["proved_at_ms"] > worker["started_at_ms"] > 1_600_000_000_000


def test_metrics_count_what_happened(http: httpx2.Client) -> None:
    def value(name: str) -> float:
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    chats = 'penstock_http_requests_total{method="POST",route="/v1/chat/completions",status="200"}'
    tokens = "penstock_generation_tokens_total"
    first = "penstock_time_to_first_token_seconds_count"
    before = value(chats), value(tokens), value(first)
    assert http.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert (value(chats), value(tokens), value(first)) == (
        before[0] + 1,
        before[1] + 8,
        before[2] + 1,
    )
    http.get("/made/up/path/of-nobody")
    text = http.get("/metrics").text
    assert "of-nobody" not in text
    for name in ("penstock_jobs{", "penstock_workers 1.0", "penstock_num_requests_running{",
                 "penstock_kv_cache_usage_perc{", "penstock_redis_up 1.0"):  # fmt: skip
        assert name in text


@pytest.fixture
def lone_redis(redis_server: RedisServer, tmp_path: Path):
    with RedisServer(tmp_path / "redis", program=redis_server.program) as server:
        yield server


def test_without_redis_everything_is_a_quick_503(lone_redis: RedisServer, tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path / "data"), redis_url=lone_redis.url, models=(MODEL,))
    with serving(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=60) as http:
        not_ready = http.get("/readyz")
        assert not_ready.status_code == 503
        assert "none has joined yet, or all fell silent" in not_ready.json()["error"]["message"]
        pid = lone_redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # frozen: connections stand, and nothing answers
        try:
            assert_all_unavailable(http, "/v1/jobs", "/v1/chat/completions")
        finally:
            os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        assert_all_unavailable(http)
        assert http.get("/healthz").status_code == 200
        assert "penstock_redis_up 0.0" in http.get("/metrics").text


def assert_all_unavailable(http: httpx2.Client, *only: str) -> None:
    time.sleep(0.6)  # what is known of workers is half a second old at most
    for method, path, body in [
        ("GET", "/readyz", None),
        ("GET", "/v1/models", None),
        ("GET", "/v1/jobs", None),
        ("POST", "/v1/chat/completions", CHAT),
        ("POST", "/v1/jobs", JOB),
    ]:
        if only and path not in only:
            continue
        started_s = time.monotonic()
        answer = http.request(method, path, json=body)
        elapsed_s = time.monotonic() - started_s
        assert answer.status_code == 503, f"{path}: {answer.status_code} {answer.text}"
        assert answer.json()["error"]["code"] == "queue_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        assert elapsed_s < 20, f"{path} took {elapsed_s:.1f} s to say no"


def test_a_key_guards_everything_but_the_health_checks(stack: Stack) -> None:
    settings = replace(stack.settings, api_key="s3cret")
    with serving(create_app(settings)) as url, httpx2.Client(base_url=url, timeout=60) as http:
        for path in ("/v1/models", "/v1/jobs", "/metrics", "/docs", "/openapi.json", "/nowhere"):
            answer = http.get(path)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        for key in ("s3cre", "s3cret2", "S3CRET", "s3crét"):
            header = f"Bearer {key}".encode()
            bad = http.get("/v1/models", headers={b"authorization": header})
            assert bad.status_code == 401
        assert http.get("/v1/models", headers={"authorization": "Basic s3cret"}).status_code == 401
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").status_code == 200
        good = http.get("/v1/models", headers={"authorization": "Bearer s3cret"})
        assert good.status_code == 200


def test_the_api_never_loads_the_engine() -> None:
    code = (
        "import sys, penstock.api.app\n"
        "from penstock.jobs.settings import Settings\n"
        "penstock.api.app.create_app(Settings(redis_url='redis://127.0.0.1:1'))\n"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'triton'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_chat_is_in_the_usage(stack: Stack, http: httpx2.Client) -> None:
    def requests_of() -> int:
        [usage] = http.get("/v1/usage").json()["data"]
        return usage["interactive"].get(MODEL, {}).get("requests", 0)

    before = requests_of()
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    assert http.post("/v1/chat/completions", json=chat).status_code == 200
    assert requests_of() == before + 1
