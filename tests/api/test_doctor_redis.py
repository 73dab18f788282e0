"""What doctor says of Redis: of real servers, set up wrongly one way after another."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from penstock.api.doctor_redis import clock, embedded_finding, redis_server, server_finding
from penstock.api.findings import Finding, Verdict
from penstock.jobs.installation import mark_installation
from penstock.jobs.keys import Keys
from penstock.jobs.redis_server import RedisServer, find_server
from penstock.jobs.settings import Settings


@pytest.mark.parametrize(
    ("info", "is_safe"),
    [
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.4"}, True),
        ({"redis_version": "7.2.10"}, False),
        ({"redis_version": "7.2.11"}, True),
        ({"redis_version": "7.0.15"}, False),
        ({"redis_version": "8.4.0"}, True),
        ({"redis_version": "8"}, False),
    ],
)
def test_a_server_with_a_known_hole_is_a_fault(info: dict[str, str], is_safe: bool) -> None:
    finding = server_finding(info)
    assert finding.verdict is (Verdict.OK if is_safe else Verdict.FAILURE)
    assert ("CVE" in finding.value) is not is_safe


@pytest.mark.parametrize(
    ("said", "is_safe"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", False),
        ("Redis server v=8.4.0 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", True),
        ("Valkey server v=8.1.3 sha=00000000:0 malloc=libc bits=64", False),
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64", True),
        ("something else", False),
    ],
)
def test_so_is_the_server_that_up_would_start(tmp_path: Path, said: str, is_safe: bool) -> None:
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    assert (embedded_finding(program).verdict is Verdict.OK) is is_safe


def test_the_server_of_our_wheel_is_safe() -> None:
    assert embedded_finding(find_server()).verdict is Verdict.OK


@pytest.fixture(scope="module")
def server(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A server of this file's own, which its tests may spoil."""
    directory = tmp_path_factory.mktemp("doctor")
    with RedisServer(directory / "redis", program=redis_server.program) as server:
        yield server


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    """A client that may do all; what it has set is set back."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        before: Any = client.config_get("appendonly", "maxmemory", "maxmemory-policy")
        yield client
        client.flushall()
        for name, value in before.items():
            client.config_set(name, value)


@pytest.fixture
def here(server: RedisServer, tmp_path: Path) -> Settings:
    return Settings(redis_url=server.url, data=str(tmp_path))


def found_in(settings: Settings) -> dict[tuple[str, str], Finding]:
    return {(each.topic, each.name): each for each in redis_server(settings)}


def test_a_server_as_ours_is_in_order(here: Settings, admin: Any) -> None:
    found = found_in(here)
    told = {name for topic, name in found if topic == "redis"}
    assert told == {"server", "file", "policy", "memory", "latency", "clock", "rights", "user"}
    assert not any(each.is_trouble for each in found.values())
    assert admin.keys("*") == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("spoil", "name", "verdict", "word"),
    [
        (lambda it: it.config_set("appendonly", "no"), "file", Verdict.WARNING, "--appendonly"),
        (
            lambda it: it.config_set("maxmemory-policy", "allkeys-lru"),
            "policy",
            Verdict.FAILURE,
            "noeviction",
        ),
        (
            lambda it: it.config_set("maxmemory", int(it.info("memory")["used_memory"] * 1.05)),
            "memory",
            Verdict.WARNING,
            "raise maxmemory",
        ),
    ],
    ids=["file", "policy", "memory"],
)
def test_a_server_that_is_set_up_wrongly_is_told(
    here: Settings,
    admin: Any,
    spoil: Callable[[Any], object],
    name: str,
    verdict: Verdict,
    word: str,
) -> None:
    spoil(admin)
    finding = found_in(here)["redis", name]
    assert finding.verdict is verdict
    assert word in finding.advice


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ("+info +ping +time ~*", "SET penstock:doctor"),
        ("+@all -@scripting ~* &*", "EVALSHA"),
        ("+@all ~* resetchannels", "PUBLISH penstock:reply:doctor"),
        ("+@all ~penstock:* &*", "LLEN penstock.control"),
    ],
)
def test_a_user_with_too_few_rights_is_told(
    here: Settings, admin: Any, server: RedisServer, rules: str, refused: str
) -> None:
    admin.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">pw", *rules.split())
    try:
        url = server.url.replace("unix://", "unix://poor:pw@")
        finding = found_in(replace(here, redis_url=url))["redis", "rights"]
        assert finding.verdict is Verdict.FAILURE
        assert finding.value.startswith(f"{refused} is refused")
        assert "compose.yaml" in finding.advice
    finally:
        admin.execute_command("ACL", "DELUSER", "poor")


def test_the_users_of_compose_have_rights_enough(
    here: Settings, admin: Any, server: RedisServer
) -> None:
    from .test_secrets import compose_users

    for line in compose_users():
        admin.execute_command("ACL", "SETUSER", *line)
    for user in ("api", "worker"):
        url = server.url.replace("unix://", f"unix://{user}:penstock@")
        found = found_in(replace(here, redis_url=url))
        assert not any(each.is_trouble for each in found.values()), found
        assert found["redis", "user"].value == user


def test_another_queues_directory_is_a_fault(here: Settings, admin: Any) -> None:
    mark_installation(here.data_dir)
    admin.set(Keys("penstock").installation, "somebody else's")
    fault = found_in(here)["data", "installation"]
    assert fault.verdict is Verdict.FAILURE
    assert "PENSTOCK_DATA" in fault.advice
    nowhere = replace(here, data=str(here.data_dir / "not-there"))
    assert found_in(nowhere)["data", "installation"].verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("behind_s", "verdict"),
    [(0.3, Verdict.OK), (-1.9, Verdict.OK), (5.0, Verdict.WARNING), (-60.0, Verdict.FAILURE)],
)
def test_a_clock_is_judged_by_what_depends_on_it(behind_s: float, verdict: Verdict) -> None:
    assert clock(behind_s).verdict is verdict


def test_a_server_that_is_not_there_is_a_fault(here: Settings) -> None:
    [fault] = redis_server(replace(here, redis_url="redis://me:hunter2@127.0.0.1:9/0"))
    assert fault.verdict is Verdict.FAILURE
    assert "hunter2" not in fault.value
