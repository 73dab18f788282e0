import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.connection import Connection

from penstock.jobs.app import broker_url
from penstock.jobs.redis_server import RedisServer, RedisUnavailable, find_server, server_version
from penstock.jobs.settings import Settings
from tests.waiting import wait_for


def client_of(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_start_and_stop_leave_nothing_running_and_keep_the_data(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis").start()
    pid = server.pid
    assert pid is not None and server.is_alive
    assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700
    with client_of(server) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("kept", "yes")
    server.stop()
    server.stop()
    assert not server.is_alive and not server.socket_path.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with RedisServer(tmp_path / "redis") as again, client_of(again) as client:
        assert client.get("kept") == "yes"


def test_data_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        with client_of(server) as client:
            client.set("kept", "yes")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        while server.is_alive:
            time.sleep(0.01)
        server.start()  # the same object may be started again: what a supervisor does
        with client_of(server) as client:
            assert client.get("kept") == "yes"


def test_two_servers_never_share_a_directory(tmp_path: Path) -> None:
    with RedisServer(tmp_path, users_url="http://127.0.0.1:8123"):
        for _ in range(2):  # who is turned away leaves the note as it is
            with pytest.raises(
                RedisUnavailable, match=r"another Penstock at http://127.0.0.1:8123"
            ):
                RedisServer(tmp_path).start()
    with (
        RedisServer(tmp_path),
        pytest.raises(RedisUnavailable, match=r"another Penstock runs .* \(--url http://…\)"),
    ):
        RedisServer(tmp_path).start()


def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    with RedisServer(tmp_path / ("d" * 120)) as server, client_of(server) as client:
        assert client.ping()
        assert len(str(server.socket_path)) < 108
        short = server.socket_path.parent
    assert not short.exists()


@pytest.mark.parametrize("name", ["l;semi", "d%20x#b", "why?a&b"])
def test_a_path_that_a_url_would_cut_gets_a_plain_one(tmp_path: Path, name: str) -> None:
    with RedisServer(tmp_path / name) as server:
        with client_of(server) as client:
            assert client.set("kept", "yes")
        url = broker_url(Settings(redis_url=server.url))
        with Connection(url) as broker:  # as the queue reads it
            channel: Any = broker.default_channel
            assert channel.client.ping()
        assert server.socket_path.parent != tmp_path / name
        assert (tmp_path / name / "appendonlydir").is_dir(), "the data stays where it is wanted"


def test_server_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from penstock.jobs.redis_server import RedisServer\n"
        "print(RedisServer(Path(sys.argv[1])).start().pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the server to end")


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RedisUnavailable, match="did not come up"):
        RedisServer(tmp_path, program=Path("/bin/false")).start()


def test_found_server_is_new_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (server_version(find_server()) or 0) >= 7
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert server_version(old) == 6
    assert find_server() != old
