"""Responses that may be asked for again: those in the background, and those lately given.

They are kept in the memory of this process, no more than `MAX_BYTES` and no longer than `KEPT_S`:
what must not be lost is submitted as a job. Knows tenants and objects, no engine and no HTTP.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from .errors import NotFound, shown
from .response_object import ResponseDraft

MAX_RUNNING = 256  # in the background at the same time
MAX_BYTES = 64 << 20
KEPT_S = 3600.0

_log = logging.getLogger("penstock.api")


class UnknownResponse(NotFound):
    """There is no such response, not any more, or it is another tenant's."""

    code = "response_not_found"

    def __init__(self, response_id: str) -> None:
        message = f"there is no response {shown(response_id)}, or not any more"
        super().__init__(message, param="response_id")


@dataclass(frozen=True, slots=True)
class _Running:
    tenant: str
    draft: ResponseDraft
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class _Kept:
    tenant: str
    ended_s: float
    body: bytes


class ResponseBook:
    """Belongs to one event loop. Whoever opens it closes it."""

    def __init__(self, max_bytes: int = MAX_BYTES, kept_s: float = KEPT_S) -> None:
        self._max_bytes = max_bytes
        self._kept_s = kept_s
        self._running: dict[str, _Running] = {}
        self._kept: dict[str, _Kept] = {}  # the oldest first
        self._num_bytes = 0

    def start(
        self, tenant: str, draft: ResponseDraft, work: Coroutine[Any, Any, None]
    ) -> bytes | None:
        """Let `work` complete a draft in the background, and keep it; None when there is no room.

        Returns the object as it is now.
        """
        if len(self._running) >= MAX_RUNNING:
            work.close()
            return None
        task = asyncio.create_task(work)
        self._running[draft.id] = _Running(tenant, draft, task)
        task.add_done_callback(lambda done: self._ended(draft.id, done))
        return msgspec.json.encode(draft.to_object())

    def keep(self, tenant: str, draft: ResponseDraft) -> None:
        """Keep a response that has ended."""
        self._sweep()
        body = msgspec.json.encode(draft.to_object())
        self._kept[draft.id] = _Kept(tenant, time.monotonic(), body)
        self._num_bytes += len(body)
        while self._num_bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def get(self, response_id: str, tenant: str) -> bytes:
        """Return a response as JSON.

        Raises:
            UnknownResponse: it is not here.
        """
        self._sweep()
        running = self._running.get(response_id)
        if running is not None and running.tenant == tenant:
            return msgspec.json.encode(running.draft.to_object())
        kept = self._kept.get(response_id)
        if kept is None or kept.tenant != tenant:
            raise UnknownResponse(response_id)
        return kept.body

    async def cancel(self, response_id: str, tenant: str) -> bytes:
        """Stop a response if it runs in the background; return what it has become.

        Raises:
            UnknownResponse: it is not here.
        """
        running = self._running.get(response_id)
        if running is not None and running.tenant == tenant:
            await _stop(running.task)
        return self.get(response_id, tenant)

    async def delete(self, response_id: str, tenant: str) -> None:
        """Stop and forget a response.

        Raises:
            UnknownResponse: it is not here.
        """
        await self.cancel(response_id, tenant)
        self._forget(response_id)

    async def close(self) -> None:
        """Stop what still runs."""
        for running in list(self._running.values()):
            await _stop(running.task)

    def _ended(self, response_id: str, task: asyncio.Task[None]) -> None:
        running = self._running.pop(response_id)
        if task.cancelled():
            running.draft.cancel()
        elif (error := task.exception()) is not None:
            _log.error("response %s ended badly", response_id, exc_info=error)
        self.keep(running.tenant, running.draft)

    def _sweep(self) -> None:
        limit_s = time.monotonic() - self._kept_s
        while self._kept:
            oldest = next(iter(self._kept))
            if self._kept[oldest].ended_s > limit_s:
                return
            self._forget(oldest)

    def _forget(self, response_id: str) -> None:
        kept = self._kept.pop(response_id, None)
        if kept is not None:
            self._num_bytes -= len(kept.body)


async def _stop(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end, as often as it takes."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.05)
    await asyncio.sleep(0)  # its callbacks come next
