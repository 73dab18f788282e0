"""Requests that wait to become a bulk job, and when enough of them wait.

Knows counts and times; knows no thread, no loop and no server. A job has one model, so requests
for different models never share one.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future as ThreadFuture, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from .batch_calls import Outcome, Request
from .client_errors import PenstockError
from .records import ChatAnswer

if TYPE_CHECKING:
    import asyncio

# What a request's asker holds: of a thread, or of an event loop.
F = TypeVar("F", "ThreadFuture[ChatAnswer]", "asyncio.Future[ChatAnswer]")


_LONGEST_S = 3600.0  # that anybody sleeps, for whom endlessly is too long
LEFT = "the batcher was left before this request was answered"


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When waiting requests become a job, and how much is under way at most."""

    max_rows: int = 1000
    max_wait_s: float = 1.0
    max_jobs: int = 8

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            ValueError: one of them would let nothing through.
        """
        for name, value in (("max_rows", self.max_rows), ("max_jobs", self.max_jobs)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.max_wait_s >= 0:
            raise ValueError(f"max_wait_s must be at least 0, got {self.max_wait_s}")


@dataclass(frozen=True, slots=True, eq=False)
class Ask(Generic[F]):
    """A request, who waits for its answer, and since when."""

    request: Request
    future: F
    since_s: float

    def settle(self, outcome: Outcome) -> None:
        """Hand out what became of the request, unless nobody waits any more."""
        if self.future.done():
            return
        with suppress(InvalidStateError):  # another thread was faster
            if isinstance(outcome, PenstockError):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)


@dataclass(frozen=True, slots=True)
class Batch(Generic[F]):
    """Requests that go out together."""

    model: str | None
    asks: Sequence[Ask[F]]

    @property
    def requests(self) -> list[Request]:
        """What is asked, in its places."""
        return [ask.request for ask in self.asks]

    def settle(self, place: int, outcome: Outcome) -> None:
        """Hand out what became of one request."""
        self.asks[place].settle(outcome)

    def settle_all(self, outcome: Outcome) -> None:
        """Hand out what became of all that have no answer yet."""
        for ask in self.asks:
            ask.settle(outcome)


@dataclass(slots=True)
class BatchQueue(Generic[F]):
    """Requests in the order in which they came, apart for each model."""

    limits: BatchLimits
    _waiting: dict[str | None, deque[Ask[F]]] = field(default_factory=dict)
    _hastened_s: float = float("-inf")  # what came until then waits for no company

    @property
    def num_waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_full(self) -> bool:
        """Whether as much waits as may be held in memory beside what is under way."""
        return self.num_waiting >= 2 * self.limits.max_rows

    def add(self, model: str | None, ask: Ask[F]) -> None:
        """Let a request wait for company."""
        self._waiting.setdefault(model, deque()).append(ask)

    def hasten(self, now_s: float) -> None:
        """Let what waits by now wait no longer."""
        self._hastened_s = now_s

    def due_in_s(self, now_s: float) -> float | None:
        """Say how long until there is something to take; None while nothing waits."""
        dues = [self._due_s(asks) - now_s for asks in self._waiting.values()]
        return max(0.0, min(*dues, _LONGEST_S)) if dues else None

    def take(self, now_s: float) -> Batch[F] | None:
        """Take the requests of the model that has waited longest; None while none is due."""
        due = [model for model, asks in self._waiting.items() if self._due_s(asks) <= now_s]
        if not due:
            return None
        model = min(due, key=lambda model: self._waiting[model][0].since_s)
        asks = self._waiting[model]
        taken = [asks.popleft() for _ in range(min(len(asks), self.limits.max_rows))]
        if not asks:
            del self._waiting[model]
        return Batch(model, taken)

    def drain(self) -> list[Ask[F]]:
        """Take all that waits, to be run by nobody."""
        asks = [ask for waiting in self._waiting.values() for ask in waiting]
        self._waiting.clear()
        return asks

    def _due_s(self, asks: deque[Ask[F]]) -> float:
        since_s = asks[0].since_s
        is_due = len(asks) >= self.limits.max_rows or since_s <= self._hastened_s
        return since_s if is_due else since_s + self.limits.max_wait_s


def unforeseen(error: Exception) -> PenstockError:
    """Wrap what nobody foresaw, so that whoever waits is told."""
    wrapped = PenstockError(f"a bulk job could not be followed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
