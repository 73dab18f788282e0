"""Harm to the engine process: killed, frozen, or fed a row that kills it."""

import os
import signal
from contextlib import suppress

from ..scene import Fault, Scene
from ..stack import engine_of


def kill_at(share: float) -> Fault:
    """F01: one engine is killed when so much of the job has ended."""

    def inject(scene: Scene) -> None:
        scene.until(share)
        scene.strike()
        _signal_engine(scene, signal.SIGKILL)

    return Fault(number="F01", title=f"engine killed at {share:.0%}", inject=inject)


def hang(scene: Scene) -> None:
    """Freeze one engine; the worker must find out by itself and replace it."""
    scene.until(0.3)
    frozen = _signal_engine(scene, signal.SIGSTOP)
    scene.strike()
    scene.wait_for(
        lambda: frozen is None or frozen not in scene.stack.engines(), "the frozen engine's end"
    )


def poison(scene: Scene) -> None:
    """Only look on: rows of the job kill every engine that runs them."""
    scene.strike()


def _signal_engine(scene: Scene, signum: signal.Signals) -> int | None:
    """Signal the engine of a worker chosen by luck; returns its process."""
    worker = scene.random.choice(scene.stack.workers)
    pid = engine_of(worker.pid)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
    return pid


FAULTS = (
    kill_at(0.05),
    kill_at(0.50),
    kill_at(0.95),
    Fault(number="F05", title="engine frozen", inject=hang),
    Fault(number="F06", title="one row that kills the engine", inject=poison, num_poisoned=1),
    Fault(number="F06", title="20 rows that kill the engine", inject=poison, num_poisoned=20),
)
