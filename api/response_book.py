"""Responses lately given, which may be asked for again for a while. Knows tenants and objects.

They are kept in the memory of this process, no more than `MAX_BYTES` and no longer than `KEPT_S`:
what must not be lost is asked for in the background, and is a job then (`background_responses`).
"""

import time
from dataclasses import dataclass

import msgspec

from .errors import NotFound, shown
from .response_object import ResponseDraft

MAX_BYTES = 64 << 20
KEPT_S = 3600.0


class UnknownResponse(NotFound):
    """There is no such response, not any more, or it is another tenant's."""

    code = "response_not_found"

    def __init__(self, response_id: str) -> None:
        message = f"there is no response {shown(response_id)}, or not any more"
        super().__init__(message, param="response_id")


@dataclass(frozen=True, slots=True)
class _Kept:
    tenant: str
    ended_s: float
    body: bytes


class ResponseBook:
    """Belongs to one event loop."""

    def __init__(self, max_bytes: int = MAX_BYTES, kept_s: float = KEPT_S) -> None:
        self._max_bytes = max_bytes
        self._kept_s = kept_s
        self._kept: dict[str, _Kept] = {}  # the oldest first
        self._num_bytes = 0

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
        kept = self._kept.get(response_id)
        if kept is None or kept.tenant != tenant:
            raise UnknownResponse(response_id)
        return kept.body

    def delete(self, response_id: str, tenant: str) -> None:
        """Forget a response.

        Raises:
            UnknownResponse: it is not here.
        """
        self.get(response_id, tenant)
        self._forget(response_id)

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
