"""Harm to Redis: killed, cut back to what a power cut leaves, full, frozen, emptied, set back."""

import os
import shutil
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import redis

from penstock.jobs.redis_server import RedisServer

from ..ledger import Order
from ..scene import Fault, Scene
from ..stack import TOKENS

_SAMPLE_S = 0.01
_FULL_S = 5.0
_LATE_ROWS = 100  # of a job handed in while Redis is full


def kill_for(away_s: float) -> Fault:
    """F12: Redis is killed and comes back, with all it had written, after a while."""

    def inject(scene: Scene) -> None:
        scene.until(0.3)
        scene.strike()
        _kill(scene.stack.redis)
        time.sleep(away_s)
        scene.stack.redis.start()

    return Fault(number="F12", title=f"Redis killed, {away_s:g} s away", inject=inject)


def cut_power(lost_s: float) -> Fault:
    """F13: Redis is killed, and the last of what it wrote never reached the disk."""

    def inject(scene: Scene) -> None:
        sizes: deque[tuple[float, int]] = deque()
        log = _append_only_file(scene.stack.redis)
        while scene.main.done < 0.4 * scene.main.order.rows and not scene.main.has_ended:
            sizes.append((time.monotonic(), log.stat().st_size))
            time.sleep(_SAMPLE_S)
        scene.strike()
        _kill(scene.stack.redis)
        cut_at_s = time.monotonic() - lost_s
        size = max((size for at_s, size in sizes if at_s <= cut_at_s), default=0)
        scene.notes["aof_bytes_lost"] = log.stat().st_size - size
        os.truncate(log, size)
        scene.stack.redis.start()

    title = f"power cut: the last {lost_s:g} s of Redis lost"
    return Fault(number="F13", title=title, inject=inject, may_forget=True)


def fill_up(scene: Scene) -> None:
    """F14: Redis refuses to grow for some seconds; what runs must land, then all goes on.

    A job that is handed in meanwhile is accepted, as it is on disk, and runs later.
    """
    scene.until(0.2)
    with _client(scene) as client:
        scene.strike()
        client.config_set("maxmemory", 1)  # under what it has: every command that may grow fails
        try:
            before = scene.main.done
            scene.submit(Order(_LATE_ROWS, scene.seed + 1, TOKENS))
            time.sleep(_FULL_S)
            scene.notes["rows_landed_while_full"] = scene.main.done - before
        finally:
            client.config_set("maxmemory", 0)


def freeze_for(away_s: float) -> Fault:
    """F16: Redis stands still; nobody may lose a lease for that."""

    def inject(scene: Scene) -> None:
        scene.until(0.2)
        pid = scene.stack.redis.pid
        assert pid is not None
        scene.strike()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(away_s)
        os.kill(pid, signal.SIGCONT)

    return Fault(number="F16", title=f"Redis frozen for {away_s:g} s", inject=inject)


def wipe(scene: Scene) -> None:
    """F17: somebody empties Redis in the middle of the job."""
    scene.until(0.4)
    with _client(scene) as client:
        scene.strike()
        client.flushall()


def set_back(scene: Scene) -> None:
    """F17: Redis comes back with a copy of its files from much earlier in the job."""
    directory = scene.stack.redis.directory
    copy = scene.stack.directory / "old-redis"
    shutil.rmtree(copy, ignore_errors=True)
    scene.until(0.1)
    shutil.copytree(directory / "appendonlydir", copy)
    scene.until(0.5)
    scene.strike()
    _kill(scene.stack.redis)
    shutil.rmtree(directory / "appendonlydir")
    shutil.copytree(copy, directory / "appendonlydir")
    scene.stack.redis.start()


def _kill(server: RedisServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.is_alive:
        time.sleep(_SAMPLE_S)


def _append_only_file(server: RedisServer) -> Path:
    [log] = (server.directory / "appendonlydir").glob("*.incr.aof")
    return log


def _client(scene: Scene) -> Any:
    return redis.Redis.from_url(scene.stack.redis.url)


FAULTS = (
    kill_for(0.0),
    kill_for(5.0),
    cut_power(1.0),
    cut_power(2.0),
    Fault(number="F14", title="Redis full for 5 s", inject=fill_up),
    freeze_for(5.0),
    freeze_for(15.0),
    Fault(number="F17", title="Redis emptied", inject=wipe, may_forget=True),
    Fault(number="F17", title="Redis restored from an old copy", inject=set_back, may_forget=True),
)
