"""Waiting for a change: something is looked at again and again, for a while. Knows not at what.

However many wait for the same, one look is under way for all of them. Nobody waits longer than the
client stays, or than the server does.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

from fastapi import Query, Request
from starlette.types import Scope

from ..jobs.model import JobState
from .errors import TooManyRequests
from .generation import ClientGone, unless_gone
from .principal import Principal, principal_of

MAX_WAIT_S = 60.0
MAX_PER_KEY = 100  # at a time; each holds a connection
WaitS: TypeAlias = Annotated[
    float,
    Query(
        alias="wait",
        ge=0,
        le=MAX_WAIT_S,
        allow_inf_nan=False,
        description="How many seconds to wait for a change.",
    ),
]
SeenState: TypeAlias = Annotated[
    JobState | None,
    Query(
        alias="seen",
        description="With `wait`: the state that was seen last; another is told at once.",
    ),
]

_LOOK_EVERY_S = 0.25
_SHUTDOWN = "penstock.is_shutting_down"  # an extension of ASGI: tells whether the server closes


class Watched(Protocol):
    """What has a state, and changes no more once that is final."""

    @property
    def state(self) -> JobState:
        """Where it stands."""
        ...


Seen = TypeVar("Seen", bound=Watched)


class LongPolls:
    """Those who wait at this process. Belongs to one event loop."""

    def __init__(self, max_per_key: int = MAX_PER_KEY) -> None:
        self._max_per_key = max_per_key
        self._waiting: Counter[Principal] = Counter()
        self._looks: dict[tuple[str, str], asyncio.Task[Any]] = {}  # (tenant, at what) -> the next

    async def next_change(
        self,
        request: Request,
        subject: str,
        look: Callable[[], Awaitable[Seen]],
        face: Callable[[Seen], object],
        wait_s: float,
        known: JobState | None = None,
    ) -> Seen:
        """Return what is seen of a tenant's `subject` once its face changes, or it has ended.

        Where the client knows it in another state, that has changed already.
        After `wait_s`, or when the client or the server leaves, it is what was seen last.

        Raises:
            TooManyRequests: the key has as many waiting as it may.
        """
        first = await look()
        is_news = known is not None and first.state is not known
        if first.state.is_final or wait_s <= 0 or is_news:
            return first
        holder = principal_of(request.scope)
        is_leaving = shutdown_of(request.scope)

        async def wait() -> Seen:
            seen, deadline_s = first, time.monotonic() + wait_s
            while not seen.state.is_final and face(seen) == face(first) and not is_leaving():
                left_s = deadline_s - time.monotonic()
                if left_s <= _LOOK_EVERY_S:  # the last look is one's own, and in time
                    await asyncio.sleep(max(left_s, 0.0))
                    return await look()
                seen = await self._next_look((holder.tenant, subject), look)
            return seen

        with self._place(holder):
            try:
                return await unless_gone(request, wait())
            except ClientGone:
                return first  # nobody reads it

    @contextmanager
    def _place(self, holder: Principal) -> Iterator[None]:
        if self._waiting[holder] >= self._max_per_key:
            raise TooManyRequests(
                f"this key waits for {self._max_per_key} changes already; ask without wait, or "
                "come again",
                code="too_many_waits",
                retry_after_s=1,
            )
        self._waiting[holder] += 1
        try:
            yield
        finally:
            self._waiting[holder] -= 1
            if not self._waiting[holder]:
                del self._waiting[holder]

    async def _next_look(self, place: tuple[str, str], look: Callable[[], Awaitable[Seen]]) -> Seen:
        """Share the next look with all who wait for it."""
        shared = self._looks.get(place)
        if shared is None:
            shared = self._looks[place] = asyncio.create_task(_look_soon(look))
            shared.add_done_callback(partial(self._forget, place))
        return await asyncio.shield(shared)  # of whoever leaves, the others must hear nothing

    def _forget(self, place: tuple[str, str], look: "asyncio.Task[Any]") -> None:
        del self._looks[place]
        if not look.cancelled():
            look.exception()  # or asyncio would complain, where all have left that waited for it


def offer_shutdown(scope: Scope, is_shutting_down: Callable[[], bool]) -> None:
    """Let those who wait see that the server is about to close."""
    scope.setdefault("extensions", {})[_SHUTDOWN] = is_shutting_down


def shutdown_of(scope: Scope) -> Callable[[], bool]:
    """Return what tells whether the server is about to close; where nobody offered, never."""
    return scope.get("extensions", {}).get(_SHUTDOWN, lambda: False)


async def _look_soon(look: Callable[[], Awaitable[Seen]]) -> Seen:
    await asyncio.sleep(_LOOK_EVERY_S)
    return await look()
