"""What became of an engine's steps: replayed, launched, captured, or left to the host and why.

The engine goes on by the host where the device fails, which is right for a job and wrong for a
check: here such a fault is kept. Knows names inside the engine, which have no other readers.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from penstock.engine import runner
from penstock.engine.device_rows import CannotServe
from penstock.engine.device_steps import DeviceSteps
from penstock.engine.kv_cache import GIB, MeasuredMemory


@dataclass
class Watch:
    """Counts from when it was begun; one engine at a time."""

    num_replayed: int = 0
    num_launched: int = 0
    num_captured: int = 0
    num_refused: int = 0
    captures_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    measured: MeasuredMemory | None = None

    @classmethod
    def begin(cls) -> "Watch":
        """Have every engine of this process tell a watch what it does."""
        watch = cls()
        _wrap(DeviceSteps, "begin", watch._begin)
        _wrap(DeviceSteps, "_replay", watch._replay)
        _wrap(DeviceSteps, "_launch", watch._launch)
        _wrap(DeviceSteps, "_capture_step", watch._capture)
        _wrap(runner, "measure", watch._measure)
        return watch

    def reset(self) -> None:
        """Count from zero; faults are kept until they are told."""
        self.num_replayed = self.num_launched = self.num_captured = self.num_refused = 0
        self.captures_s = 0.0

    def tell(self) -> dict[str, Any]:
        """Return the counts, and fail if a step failed on the device."""
        if self.faults:
            found, self.faults = self.faults, []
            raise RuntimeError(f"{len(found)} steps failed on the device, the first: {found[0]}")
        return {
            "replayed": self.num_replayed,
            "launched": self.num_launched,
            "captured": self.num_captured,
            "captures_s": round(self.captures_s, 3),
            "by_host": self.num_refused,
        }

    def memory(self) -> dict[str, float]:
        """Return what the largest step was measured to take, if it was."""
        if self.measured is None:
            return {}
        return {
            "planned_step_gib": self.measured.step_bytes / GIB,
            "planned_graphs_gib": self.measured.graph_bytes / GIB,
        }

    def _begin(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return call(*given, **named)
        except CannotServe:
            self.num_refused += 1
            raise
        except Exception as error:
            lines = traceback.format_exc().strip().splitlines()[-12:]
            self.faults.append(f"{type(error).__name__}: {error} | " + " | ".join(lines))
            raise

    def _replay(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.num_replayed += 1
        return call(*given, **named)

    def _launch(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.num_launched += 1
        return call(*given, **named)

    def _capture(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        made = call(*given, **named)
        self.num_captured += 1
        self.captures_s += time.perf_counter() - began
        return made

    def _measure(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.measured = call(*given, **named)
        return self.measured


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    call = getattr(owner, name)

    @wraps(call)
    def watched(*given: Any, **named: Any) -> Any:
        return around(call, *given, **named)

    setattr(owner, name, watched)
