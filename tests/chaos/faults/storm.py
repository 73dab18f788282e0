"""Everything at once: parts are killed at random until the job has ended."""

import os
import signal
import time
from contextlib import suppress

from ..scene import Fault, Scene
from ..stack import engine_of

_PARTS = ("engine", "engine", "worker", "api", "redis")


def storm(scene: Scene) -> None:
    """L9: every few seconds another part dies, and is started again."""
    scene.until(0.05)
    scene.strike()
    killed: list[str] = []
    while not scene.main.has_ended and len(killed) < 12:
        killed.append(_kill_one(scene))
        time.sleep(scene.random.uniform(0.5, 4.0))
    scene.notes["killed"] = {name: killed.count(name) for name in sorted(set(killed))}


def _kill_one(scene: Scene) -> str:
    stack = scene.stack
    part = scene.random.choice(_PARTS)
    worker = scene.random.choice(stack.workers)
    match part:
        case "engine":
            pid = engine_of(worker.pid)
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        case "worker":
            worker.kill()
            worker.start()
        case "api":
            stack.api.kill()
            stack.api.start()
        case "redis":
            assert stack.redis.pid is not None
            os.kill(stack.redis.pid, signal.SIGKILL)
            time.sleep(scene.random.uniform(0.0, 2.0))
            stack.redis.start()
    return part


FAULTS = (Fault(number="L9", title="a part killed every few seconds", inject=storm),)
