"""What became of an engine's steps: replayed, launched, captured, or left to the host and why.

The engine goes on by the host where the device fails, which is right for a job and wrong for a
check: here such a fault is kept.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch

from penstock.engine import device_steps, runner
from penstock.engine.device_rows import CannotServe
from penstock.engine.device_steps import DeviceSteps
from penstock.engine.graphs import Capture, CaptureFailed, Replay, Work
from penstock.engine.kv_cache import GIB, MeasuredMemory


@dataclass
class Watch:
    """Counts from when it was begun or reset; one engine at a time."""

    num_begun: int = 0
    num_replayed: int = 0
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
        _wrap(device_steps, "capture_on", watch._capture_on)
        _wrap(runner, "measure", watch._measure)
        return watch

    def reset(self) -> None:
        """Count from zero; faults are kept until they are told."""
        self.num_begun = self.num_replayed = self.num_captured = self.num_refused = 0
        self.captures_s = 0.0

    def tell(self) -> dict[str, Any]:
        """Return the counts, and fail if a step or a capture failed on the device."""
        if self.faults:
            found, self.faults = self.faults, []
            raise RuntimeError(f"{len(found)} steps failed on the device, the first: {found[0]}")
        return {
            "replayed": self.num_replayed,
            "launched": self.num_begun - self.num_replayed,
            "captured": self.num_captured,
            "captures_s": round(self.captures_s, 3),
            "refused": self.num_refused,
        }

    def memory(self) -> dict[str, float]:
        """Return what the largest step was measured to take, if it was."""
        if self.measured is None:
            return {}
        return {
            "planned_step_gib": self.measured.step_bytes / GIB,
            "planned_graphs_gib": self.measured.graph_bytes / GIB,
        }

    def capture(self, by: Capture, work: Work) -> Replay:
        """Capture work, and note how long that took, or why it cannot be."""
        began = time.perf_counter()
        try:
            made = by(work)
        except CaptureFailed as error:
            self._note(error)
            raise
        self.num_captured += 1
        self.captures_s += time.perf_counter() - began
        return _WatchedReplay(self, made)

    def _begin(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            begun = call(*given, **named)
        except CannotServe:
            self.num_refused += 1
            raise
        except Exception as error:
            self._note(error)
            raise
        self.num_begun += 1
        return begun

    def _capture_on(self, call: Callable[..., Any], device: torch.device) -> Capture:
        return _WatchedCapture(self, call(device))

    def _measure(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.measured = call(*given, **named)
        return self.measured

    def _note(self, error: Exception) -> None:
        lines = traceback.format_exc().strip().splitlines()[-12:]
        self.faults.append(f"{type(error).__name__}: {error} | " + " | ".join(lines))


class _WatchedCapture:
    def __init__(self, watch: Watch, by: Capture) -> None:
        self._watch = watch
        self._by = by

    def __call__(self, work: Work) -> Replay:
        return self._watch.capture(self._by, work)


class _WatchedReplay:
    def __init__(self, watch: Watch, replay: Replay) -> None:
        self._watch = watch
        self._replay = replay
        self.outputs = replay.outputs

    def __call__(self) -> None:
        self._watch.num_replayed += 1
        self._replay()


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    call = getattr(owner, name)

    @wraps(call)
    def watched(*given: Any, **named: Any) -> Any:
        return around(call, *given, **named)

    setattr(owner, name, watched)
