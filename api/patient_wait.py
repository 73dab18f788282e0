"""Waiting for something on the server to end. Knows no job and no run; does no IO (see `talk`)."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

import httpx2

from ..jobs.model import JobState
from .client_errors import ApiError, PenstockError, ServerUnreachable, WaitTimedOut
from .retry_policy import RetryPolicy
from .talk import Send, Talk, ask


class Record(Protocol):
    """Stands somewhere, as a job or a run does."""

    @property
    def status(self) -> JobState:
        """Where it stands."""
        ...

    @property
    def finished_at(self) -> datetime | None:
        """When it ended, if it did."""
        ...


T = TypeVar("T")
Seen = TypeVar("Seen", bound=Record)

LONG_POLL_S = 10.0
PAUSE_S = 0.25  # between two looks
_PATIENCE_S = 120.0  # how long a server is borne that is away
_PATIENT_RETRIES = 30  # which takes about as long, in the mean


def patient(retry: RetryPolicy) -> RetryPolicy:
    """Bear a server that is away for two minutes or so, with what is asked again and again.

    Whoever wants no second try at all is told at once.
    """
    if retry.max_retries == 0:
        return retry
    return replace(retry, max_retries=max(retry.max_retries, _PATIENT_RETRIES))


def both(first: Callable[[T], None], second: Callable[[T], None]) -> Callable[[T], None]:
    """Let two look at what was seen."""

    def look(seen: T) -> None:
        first(seen)
        second(seen)

    return look


def long_poll(wait_s: float, seen: Record | None) -> dict[str, Any]:
    """Ask for a change: of what there is, or from the state in which it was seen last."""
    params: dict[str, Any] = {"wait": round(wait_s, 2)}
    return params if seen is None else {**params, "seen": str(seen.status)}


def wait_for_end(
    path: str,
    read: Callable[[httpx2.Response], Seen],
    retry: RetryPolicy,
    *,
    timeout_s: float | None,
    on_look: Callable[[Seen], None],
    how_it_goes_on: Callable[[Seen | None], str],
) -> Talk[Seen]:
    """Look at a path until what is there has ended. A server away for two minutes is borne.

    Raises:
        WaitTimedOut: the time is up; the message is what `how_it_goes_on` says of the last look.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    last_answer = time.monotonic()
    seen: Seen | None = None
    pause_s = 0.0
    while True:
        left_s = LONG_POLL_S if deadline is None else deadline - time.monotonic()
        send = Send(
            "GET",
            path,
            params=long_poll(max(0.0, min(LONG_POLL_S, left_s)), seen) if pause_s else {},
            after_s=min(pause_s, max(0.0, left_s)),
        )
        pause_s = PAUSE_S
        try:
            seen = yield from ask(send, retry, read)
        except PenstockError as error:
            is_away = isinstance(error, ServerUnreachable) or (
                isinstance(error, ApiError) and error.status_code >= 500
            )
            if not is_away or time.monotonic() - last_answer > _PATIENCE_S:
                raise
        else:
            last_answer = time.monotonic()
            on_look(seen)
            if seen.status.is_final or seen.finished_at:  # in a state that is not known here
                return seen
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimedOut(how_it_goes_on(seen))
