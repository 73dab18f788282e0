"""The register of live workers: one heartbeat each, gone six seconds after its last beat.

Knows Redis, no Celery and no engine. What a worker says of itself is believed.
"""

import asyncio
import logging
import time
from typing import Any

import msgspec
import redis
import redis.asyncio

from .keys import Keys

HEARTBEAT_S = 1.0
LIFETIME_MS = 6_000
PROOF_MAX_AGE_MS = 30_000  # an engine through which no row came for longer is not counted on

logger = logging.getLogger(__name__)


class WorkerTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker and its engine have counted since each began; a new engine begins at 0.

    `shard_retries` are claims of shards that were tried before, `lease_expiries` shards of silent
    workers that this one, as the keeper that leads, has handed back. `rows` are those it landed, by
    their error's code, "" for none; `engine_losses` are engines that died or were ended.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    shard_retries: int = 0
    lease_expiries: int = 0
    engine_losses: int = 0
    rows: dict[str, int] = {}


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker that serves says about itself once a second.

    `proved_at_ms` is when a row, or a canary of one token, last came through its engine. One that
    cannot serve says in `not_ready` why, and is draining too, so that nobody sends it anything.
    `revision` is the model's, another one wherever answers may be others; empty if it is unknown.
    """

    name: str
    model: str
    host: str
    pid: int
    slots: int
    running_rows: int
    waiting_rows: int
    tokens_per_s: float
    kv_used_fraction: float
    started_at_ms: int
    proved_at_ms: int
    has_chat_template: bool
    max_model_len: int | None
    busy_tokens_per_s: float = 0.0  # the most it gave in a second while it had enough to do
    shards: int = 0
    is_draining: bool = False
    not_ready: str | None = None
    totals: WorkerTotals = WorkerTotals()
    revision: str = ""


class WorkerRegister:
    """Announces this process's worker, and lists the live ones, for threads."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # redis-py types its answers as sync-or-async
        self._keys = keys

    def announce(self, info: WorkerInfo) -> None:
        """Write one heartbeat."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.set(self._keys.worker(info.name), msgspec.json.encode(info), px=LIFETIME_MS)
            pipeline.sadd(self._keys.workers, info.name)
            pipeline.execute()

    def withdraw(self, name: str) -> None:
        """Take a worker off the register, when it stops."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(self._keys.worker(name))
            pipeline.srem(self._keys.workers, name)
            pipeline.execute()

    def list(self) -> list[WorkerInfo]:
        """Return the live workers by name; names without a heartbeat are struck off."""
        names = sorted(map(_text, self._redis.smembers(self._keys.workers)))
        if not names:
            return []
        infos, gone = _read(names, self._redis.mget([self._keys.worker(name) for name in names]))
        if gone:
            self._redis.srem(self._keys.workers, *gone)
        return infos


class AsyncWorkerRegister:
    """Lists the live workers, for the API's event loop. Remembers the answer for half a second."""

    def __init__(
        self, client: redis.asyncio.Redis, keys: Keys, *, max_age_s: float = HEARTBEAT_S / 2
    ) -> None:
        self._redis: Any = client
        self._keys = keys
        self._max_age_s = max_age_s
        self._read_at_s = float("-inf")
        self._infos: list[WorkerInfo] = []
        self._look: asyncio.Task[None] | None = None

    async def list(self) -> list[WorkerInfo]:
        """Return the live workers by name. Those who ask at once share one look."""
        if time.monotonic() - self._read_at_s > self._max_age_s:
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._read())
            await asyncio.shield(self._look)  # of whoever gives up, the others must hear nothing
        return self._infos

    async def _read(self) -> None:
        names = sorted(map(_text, await self._redis.smembers(self._keys.workers)))
        values = (
            await self._redis.mget([self._keys.worker(name) for name in names]) if names else []
        )
        self._infos, _ = _read(names, values)
        self._read_at_s = time.monotonic()

    async def serving(self, model: str) -> "list[WorkerInfo]":
        """Return the live workers that take requests for a model."""
        return [info for info in await self.list() if info.model == model and not info.is_draining]


def _read(names: list[str], values: list[Any]) -> tuple[list[WorkerInfo], list[str]]:
    infos, gone = [], []
    for name, value in zip(names, values, strict=True):
        if value is None:
            gone.append(name)
            continue
        try:
            infos.append(msgspec.json.decode(value, type=WorkerInfo, strict=False))
        except msgspec.DecodeError as error:  # of another version, which its own API understands
            logger.warning("what worker %s says of itself is not understood: %s", name, error)
    return infos, gone


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value
