"""Waiting for a change: something is looked at again and again, for a while. Knows not at what."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol, TypeAlias, TypeVar

import anyio
from fastapi import Query

from ..jobs.model import JobState

MAX_WAIT_S = 60.0
WaitS: TypeAlias = Annotated[float, Query(alias="wait", ge=0, le=MAX_WAIT_S, allow_inf_nan=False)]

_LOOK_EVERY_S = 0.25


class Watched(Protocol):
    """What has a state, and changes no more once that is final."""

    @property
    def state(self) -> JobState:
        """Where it stands."""
        ...


Seen = TypeVar("Seen", bound=Watched)


async def next_change(
    look: Callable[[], Awaitable[Seen]], face: Callable[[Seen], object], wait_s: float
) -> Seen:
    """Return what is seen once its face changes, or after `wait_s`; at once if it has ended."""
    seen = first = await look()
    deadline_s = time.monotonic() + wait_s
    while not seen.state.is_final and face(seen) == face(first):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            break
        await anyio.sleep(min(_LOOK_EVERY_S, left_s))
        seen = await look()
    return seen
