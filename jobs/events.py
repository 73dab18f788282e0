"""What happens to a job, as it happens: a short stream per job. Knows Redis, no HTTP.

The stream is the truth and the wake-up in one: a follower blocks on it, and after a lost connection
goes on from the last id it saw.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import redis
import redis.asyncio

from .keys import Keys

MAX_EVENTS = 2_000
KEPT_S = 3_600
_BLOCK_MS = 2_000

STATUS = "job.status"
PROGRESS = "job.progress"
SHARD_LANDED = "shard.landed"
WORKER_RESTARTED = "worker.restarted"  # its engine was lost, with rows of the job
RESET = "reset"  # events were missed: read the job anew
DONE = "done"  # nothing follows


class JobEvent(msgspec.Struct, frozen=True):
    """One event; `id` is what a follower hands back to go on after it."""

    id: str
    kind: str
    data: dict[str, Any]


class JobEvents:
    """Publishes events, from threads."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client
        self._keys = keys

    def publish(self, job_id: str, kind: str, data: dict[str, Any]) -> None:
        """Append an event to the job's stream."""
        body = msgspec.json.encode(data)
        stream = self._keys.events(job_id)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xadd(stream, {"kind": kind, "data": body}, maxlen=MAX_EVENTS, approximate=True)
            pipeline.expire(stream, KEPT_S)
            pipeline.execute()


class AsyncJobEvents:
    """Follows events, on the API's event loop.

    Those who wait for the same event share one look, and so one connection.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._redis: Any = client
        self._keys = keys
        self._looks: dict[tuple[str, str], asyncio.Task[list[JobEvent]]] = {}

    async def close(self) -> None:
        """Look no more: whoever still follows is told nothing further."""
        looks = list(self._looks.values())
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    async def follow(
        self,
        job_id: str,
        last_id: str | None = None,
        *,
        is_final: Callable[[], Awaitable[bool]] | None = None,
    ) -> AsyncIterator[JobEvent]:
        """Yield events after `last_id`, or from now on, until the job is done.

        An event was lost when `last_id` is older than the stream reaches back: then `reset` comes
        first. `is_final` is asked whenever nothing happens for two seconds, so that a follower of
        a job that ended without a word (its events expired, or Redis lost them) ends too.
        """
        stream = self._keys.events(job_id)
        position = last_id
        if position is None:
            newest = await self._redis.xrevrange(stream, count=1)
            position = _text(newest[0][0]) if newest else "0-0"
            if newest and _text(_fields(newest[0][1])["kind"]) == DONE:
                yield _event(newest[0])
                return
        elif await self._has_gap(stream, position):
            yield JobEvent(id=position, kind=RESET, data={})
        while True:
            events = await self._look(stream, position)
            for event in events:
                position = event.id
                yield event
                if event.kind == DONE:
                    return
            if not events and is_final is not None and await is_final():
                yield JobEvent(id=position, kind=DONE, data={})
                return

    async def _look(self, stream: str, position: str) -> list[JobEvent]:
        """Return what comes after a position, as soon as there is something."""
        place = stream, position
        look = self._looks.get(place)
        if look is None:
            look = self._looks[place] = asyncio.create_task(self._read(stream, position))
            look.add_done_callback(partial(self._forget, place))
        return await asyncio.shield(look)  # of whoever leaves, the others must hear nothing

    def _forget(self, place: tuple[str, str], look: asyncio.Task[list[JobEvent]]) -> None:
        self._looks.pop(place, None)
        if not look.cancelled():
            look.exception()  # or asyncio would complain, where all have left that waited for it

    async def _read(self, stream: str, position: str) -> list[JobEvent]:
        answer = await self._redis.xread({stream: position}, count=100, block=_BLOCK_MS)
        entries = answer[0][1] if isinstance(answer, list) and answer else []
        if isinstance(answer, dict):  # RESP3
            entries = [entry for page in answer.get(stream, []) for entry in page]
        return [_event(entry) for entry in entries]

    async def _has_gap(self, stream: str, position: str) -> bool:
        oldest = await self._redis.xrange(stream, count=1)
        if not oldest:  # expired, or lost with Redis
            return position != "0-0"
        return _number(position) < _number(_text(oldest[0][0])) and position != "0-0"


def _event(entry: Any) -> JobEvent:
    identity, fields = entry[0], _fields(entry[1])
    return JobEvent(
        id=_text(identity), kind=_text(fields["kind"]), data=msgspec.json.decode(fields["data"])
    )


def _fields(fields: dict[Any, Any]) -> dict[str, Any]:
    return {_text(name): value for name, value in fields.items()}


def _number(identity: str) -> tuple[int, int]:
    time_ms, _, sequence = identity.partition("-")
    return int(time_ms), int(sequence or 0)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value
