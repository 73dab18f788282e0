"""A step that the device is computing, and what it drew once somebody asks.

Knows tensors on their way to the host. Refuses to know how the step was started.
"""

from collections.abc import Sequence as Rows
from threading import Lock

from .device_sampler import Drawn, TopLogprobs, read
from .device_stream import Reading
from .step import NOT_DRAWN, StepPart, StepResult


class StartedStep:
    """A step that the device is computing."""

    def __init__(self, parts: Rows[StepPart], readings: Rows[Reading]) -> None:
        self._parts = parts
        self._readings = readings
        self._lock = Lock()  # who lands it and who must know its tokens to go on may both ask
        self._result: StepResult | None = None

    def finish(self) -> list[StepResult]:
        """Wait for the step and return what it drew; again, the same."""
        with self._lock:
            if self._result is None:
                token_ids, scores, *logprobs = [reading.wait() for reading in self._readings]
                drawn = Drawn(token_ids, scores, TopLogprobs(*logprobs) if logprobs else None)
                self._result = _result(drawn, self._parts)
            return [self._result]


def _result(drawn: Drawn, parts: Rows[StepPart]) -> StepResult:
    """Read what a step drew for rows that had caught up."""
    sampled = read(drawn, [part.sequence for part in parts])
    result = StepResult()
    for row, part in enumerate(parts):
        if part.place == NOT_DRAWN:
            continue
        if row in sampled.faults:
            result.faults[part.sequence] = sampled.faults[row]
            continue
        result.sequences.append(part.sequence)
        result.token_ids.append(sampled.token_ids[row])
        if row in sampled.logprobs:
            result.logprobs[part.sequence] = sampled.logprobs[row]
    return result
