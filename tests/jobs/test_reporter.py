"""What a worker says of its speed."""

from types import SimpleNamespace
from typing import Any

import pytest
import redis

from penstock.jobs import reporter as reporter_module
from penstock.jobs.events import JobEvents
from penstock.jobs.frames import Progress, Ready
from penstock.jobs.keys import Keys
from penstock.jobs.reporter import Reporter
from penstock.jobs.workers import WorkerRegister

SLOTS = 64


def progress(running_rows: int, tokens: int) -> Progress:
    return Progress(
        steps=tokens,
        running_rows=running_rows,
        waiting_rows=0,
        unread_shards=0,
        tokens=tokens,
        kv_used_fraction=0.0,
        proved_at_ms=0,
    )


def test_the_speed_of_a_busy_second_is_remembered_and_that_of_an_idle_one_is_not(
    redis_client: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(reporter_module.time, "monotonic", lambda: clock[0])
    ready = Ready(pid=1, slots=SLOTS, has_chat_template=True, max_model_len=None)
    engine: Any = SimpleNamespace(ready=ready, progress=None, trouble=None)
    register = WorkerRegister(redis_client, keys)
    reporter = Reporter(register, JobEvents(redis_client, keys), engine, "fake", "w1")
    tokens = 0
    for running_rows, tokens_per_s in ((2, 10), (SLOTS // 2, 4_000), (SLOTS, 3_000), (1, 9_000)):
        for _ in range(12):
            engine.progress = progress(running_rows, tokens)
            reporter._report()
            clock[0] += 0.25
            tokens += tokens_per_s // 4
    (info,) = register.list()
    assert info.busy_tokens_per_s == 4_000
