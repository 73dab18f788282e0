"""Workers as they announce themselves while they have nothing to do."""

import time
from typing import Any

from penstock.jobs.workers import WorkerInfo


def idle_worker(name: str, model: str = "m", **fields: Any) -> WorkerInfo:
    """Return what a worker says of itself; `fields` say otherwise."""
    said: dict[str, Any] = {
        "host": "here",
        "pid": 1,
        "slots": 8,
        "running_rows": 0,
        "waiting_rows": 0,
        "tokens_per_s": 0.0,
        "kv_used_fraction": 0.0,
        "started_at_ms": 1,
        "proved_at_ms": time.time_ns() // 1_000_000,
        "has_chat_template": True,
        "max_model_len": None,
        **fields,
    }
    return WorkerInfo(name=name, model=model, **said)
