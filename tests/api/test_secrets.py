"""The stack as compose.yaml has it: a Redis user for each part, and no word of anybody elsewhere.

Every process is real: the API, a worker and Flower, each under the rights that compose.yaml gives
it, and one who watches every command that reaches Redis.
"""

import base64
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
import yaml
from redis.exceptions import NoPermissionError

from penstock.api.flower_pages import looking_only
from penstock.jobs.app import create_app
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from tests.ports import reserved_port
from tests.waiting import wait_for

from .conftest import MODEL, worker_process

COMPOSE = Path(__file__).resolve().parents[2] / "compose.yaml"
KEY = "canary-key-4711"
PROMPT = "canary-prompt-0815"
PASSWORD = "look:canary-password-1234"
FORBIDDEN = (
    "ACL LIST",
    "BGSAVE",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "CONFIG GET *",
    "CONFIG SET dir /",
    "EVAL return(1) 0",
    "FAILOVER",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION LIST",
    "KEYS *",
    "LATENCY LATEST",
    "MODULE LIST",
    "MONITOR",
    "REPLICAOF NO ONE",
    "SAVE",
    "SCRIPT FLUSH",
    "SHUTDOWN NOSAVE",
    "SLOWLOG GET",
    "SWAPDB 0 1",
    "GET of-another-application",
)


@dataclass(frozen=True)
class House:
    server: RedisServer
    admin: redis.Redis
    url: str
    flower_url: str
    logs: Path
    commands: list[str]  # all that reached Redis since the start

    def url_of(self, user: str) -> str:
        return self.server.url.replace("unix://", f"unix://{user}:penstock@")

    def flower(self) -> httpx2.Client:
        user, _, password = PASSWORD.partition(":")
        return httpx2.Client(base_url=self.flower_url, auth=(user, password), timeout=60)


@pytest.fixture(scope="module")
def house(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("secrets")
    with ExitStack() as stack:
        server = RedisServer(directory / "redis", program=redis_server.program)
        stack.enter_context(server)
        admin = stack.enter_context(redis.Redis.from_url(server.url, decode_responses=True))
        for line in compose_users():
            admin.execute_command("ACL", "SETUSER", *line)
        commands = stack.enter_context(_watched(server.url))
        ports = [stack.enter_context(reserved_port()) for _ in range(2)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        house = House(server, admin, urls[0], urls[1], directory, commands)
        settings = Settings(data=str(directory / "data"), models=(MODEL,), lease_s=2.0, api_key=KEY)
        as_worker, as_api, as_flower = (
            replace(settings, redis_url=house.url_of(user)) for user in ("worker", "api", "flower")
        )
        stack.enter_context(worker_process(as_worker, MODEL, directory / "worker.log"))
        stack.enter_context(_part(as_api, directory / "api.log", "api", "--port", str(ports[0])))
        flower = stack.enter_context(
            _part(as_flower, directory / "flower.log", "flower", "--port", str(ports[1]))
        )
        _wait_for(f"{house.url}/readyz", directory / "api.log")
        _wait_for(f"{house.flower_url}/healthcheck", directory / "flower.log")
        assert flower.poll() is None
        with house.flower() as http:  # who does not listen yet would never hear of an early shard
            wait_for(
                lambda: http.get("/workers?json=1").json()["data"], "Flower to hear of workers"
            )
        yield house


def compose_users() -> list[list[str]]:
    """Read the users of compose.yaml; `default` stays as it is, for the one who watches."""
    text = yaml.safe_load(COMPOSE.read_text())["configs"]["redis-users"]["content"]
    lines = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text).splitlines()
    return [line.split()[1:] for line in lines if "default" not in line]


@contextmanager
def _watched(url: str) -> Iterator[list[str]]:
    seen: list[str] = []
    patient = redis.Redis.from_url(url, decode_responses=True, socket_timeout=None)
    with patient as client, client.monitor() as monitor:  # however long nobody says anything

        def watch() -> None:
            command: Any
            for command in monitor.listen():
                seen.append(command["command"])
                if "that-is-all" in command["command"]:
                    return

        thread = threading.Thread(target=watch, name="monitor", daemon=True)
        thread.start()
        yield seen
        with redis.Redis.from_url(url) as other:
            other.echo("that-is-all")
        thread.join(60)


@contextmanager
def _part(settings: Settings, log: Path, *verb: str) -> Iterator["subprocess.Popen[bytes]"]:
    environ = {**os.environ, **settings.to_environ(), "FLOWER_BASIC_AUTH": PASSWORD}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.api.cli", *verb],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx2.get(url, timeout=60).status_code == 200:
                return
        except httpx2.TransportError:
            pass  # it does not listen yet
        assert time.monotonic() < deadline, f"{url}: {log.read_text()[-4000:]}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def worked(house: House) -> House:
    """A house in which a job, a chat and some mishaps have been, with a canary in each."""
    headers = {"authorization": f"Bearer {KEY}"}
    job = {
        "model": MODEL,
        "prompt": f"{PROMPT} {{{{ row.t }}}}",
        "input": {"rows": [{"t": PROMPT}]},
    }
    chat = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4}
    with httpx2.Client(base_url=house.url, headers=headers, timeout=60) as http:
        made = http.post("/v1/jobs", json={**job, "name": PROMPT}).json()["id"]
        ended = http.get(f"/v1/jobs/{made}?wait=20").json()
        while ended["status"] not in ("completed", "failed"):
            ended = http.get(f"/v1/jobs/{made}?wait=20").json()
        assert ended["status"] == "completed"
        assert http.post("/v1/chat/completions", json=chat).status_code == 200
        for body in ({**job, "prompt": f"{{{{ {PROMPT}"}, {**job, PROMPT: 1}):
            assert http.post("/v1/jobs", json=body).status_code == 400
        for path in ("/v1/jobs", f"/v1/jobs/{PROMPT}", f"/v1/files/{PROMPT}"):
            http.get(path)
        wrong = {"authorization": f"Bearer {KEY}x"}
        assert http.get("/v1/jobs", headers=wrong).status_code == 401
    return house


@pytest.mark.parametrize("user", ["api", "worker", "flower"])
@pytest.mark.parametrize("command", FORBIDDEN)
def test_nobody_may_do_more_in_redis_than_its_work(house: House, user: str, command: str) -> None:
    with (
        redis.Redis.from_url(house.url_of(user)) as client,
        pytest.raises(NoPermissionError),
    ):
        client.execute_command(*command.split())


def test_flower_may_not_read_the_job_table_nor_a_queue(house: House) -> None:
    with redis.Redis.from_url(house.url_of("flower")) as client:
        for command in ("SMEMBERS penstock:open", f"LRANGE penstock.interactive.{MODEL} 0 -1"):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command.split())


def test_a_stranger_may_nothing(house: House) -> None:
    [default_off] = [
        line
        for line in yaml.safe_load(COMPOSE.read_text())["configs"]["redis-users"][
            "content"
        ].splitlines()
        if line.startswith("user default")
    ]
    assert default_off.split()[2:] == ["off"]
    with redis.Redis.from_url(house.server.url.replace("unix://", "unix://health:x@")) as client:
        assert client.ping()
        with pytest.raises(NoPermissionError):
            client.get("penstock:open")


def test_a_stack_under_these_users_is_never_refused(worked: House) -> None:
    parts = {"api", "worker", "flower"}
    app = create_app(Settings(redis_url=worked.url_of("flower")))
    assert app.control.inspect(timeout=60, limit=1).ping()
    app.close()
    log: Any = worked.admin.acl_log()
    tested = {command.split()[0].lower() for command in FORBIDDEN} | {"smembers", "lrange"}
    refused = [
        entry
        for entry in log
        if entry["username"] in parts
        and entry["object"].split("|")[0] not in tested
        and entry["object"] not in ("of-another-application", "penstock:open")
        and not entry["object"].startswith("penstock.interactive.")
    ]
    assert refused == []


@pytest.mark.parametrize("canary", [KEY, PROMPT, PASSWORD.partition(":")[2]])
def test_no_log_holds_a_canary(worked: House, canary: str) -> None:
    logs = [*worked.logs.glob("*.log"), *(worked.logs / "redis").glob("*.log")]
    assert len(logs) >= 4
    assert [log.name for log in logs if canary in log.read_text(errors="replace")] == []


def test_redis_hears_of_no_key_and_of_no_row(worked: House) -> None:
    worked.admin.echo("so-far")
    wait_for(lambda: any("so-far" in command for command in list(worked.commands)))
    commands = [_plain(command) for command in list(worked.commands)]
    said = [command for command in commands if PROMPT in command]
    assert [command for command in commands if KEY in command] == []
    # A chat passes through its queue, and the name of a job is its user's own to show.
    named = ("penstock.interactive.", f"name {PROMPT}")
    assert any(named[0] in each for each in said), "nobody has listened"
    assert [each[:300] for each in said if not any(way in each for way in named)] == []
    keys = [key for key in worked.admin.scan_iter(count=1000) if PROMPT in key or KEY in key]
    assert keys == []


def _plain(command: str) -> str:
    """Read also what a message holds in base64, as kombu writes it."""
    wrapped = re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", command)
    whole = (each for each in wrapped if len(each) % 4 == 0)
    return command + "".join(base64.b64decode(each).decode(errors="replace") for each in whole)


def test_metrics_name_nobody(worked: House) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    text = httpx2.get(f"{worked.url}/metrics", headers=headers, timeout=60).text
    assert "penstock_" in text
    assert PROMPT not in text
    assert KEY not in text


def test_flower_shows_shards_and_no_prompt(worked: House) -> None:
    with worked.flower() as http:
        wait_for(lambda: "job_" in http.get("/api/tasks").text)
        pages = http.get("/api/tasks").text + http.get("/tasks").text + http.get("/workers").text
        pages += http.get("/api/workers").text + http.get("/metrics").text
    assert PROMPT not in pages
    assert KEY not in pages


def test_flower_asks_who_is_there_and_changes_nothing(house: House) -> None:
    for path in ("workers", "api/workers"):
        assert httpx2.get(f"{house.flower_url}/{path}", timeout=60).status_code == 401
    with house.flower() as http:
        for path in (
            "worker/shutdown/x",
            "worker/pool/shrink/x",
            "worker/queue/cancel-consumer/x",
            "task/revoke/x",
            "task/abort/x",
            "task/send-task/penstock.generate",
            "task/async-apply/penstock.generate",
        ):
            assert http.post(f"/api/{path}").status_code == 404


def test_what_flower_learns_to_do_is_not_served() -> None:
    handlers = [("/api/worker/new-power/(.+)", object), ("/tasks", object), ("/api/tasks", object)]
    assert [address for address, _ in looking_only(handlers)] == ["/tasks", "/api/tasks"]
