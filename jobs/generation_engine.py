"""The face of an engine, as its loop sees it: the real one and the made-up one both have it."""

from collections.abc import Sequence
from typing import Any, Protocol

from ..engine.outputs import Request, StepOutput


class GenerationEngine(Protocol):
    """What the loop asks of an engine."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        ...

    @property
    def num_running(self) -> int:
        """Samples under way."""
        ...

    @property
    def num_waiting(self) -> int:
        """Samples that wait for room."""
        ...

    def add(self, request: Request) -> StepOutput | None:
        """Accept a request, or return its refusal."""
        ...

    def abort(self, request_id: str) -> None:
        """Take a request back."""
        ...

    def step(self) -> Sequence[StepOutput]:
        """Advance, and say what happened."""
        ...

    def stats(self) -> Any:
        """Count steps and tokens."""
        ...
