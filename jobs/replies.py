"""Text on its way back to who waits for it. Knows Redis and deltas, no engine and no HTTP.

Each reply goes two ways in one round trip: published on the channel of the API process that asked
(fast, but a slow subscriber is cut off and misses some), and appended to the request's own stream
(kept ten minutes). A reply's `first` tells the reader whether one is missing; the stream fills in.
Every open request is heard of every few seconds, so that a reader can tell a long wait from a loss.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from ..engine.outputs import RequestError
from .frames import Delta
from .keys import Keys

MAX_TAIL = 20_000
TAIL_KEPT_S = 600
KEEPALIVE_S = 5.0
PATIENCE_S = 30.0  # how long deltas wait for Redis; then their readers find a gap
_RETRY_S = 0.25

logger = logging.getLogger(__name__)


class Reply(msgspec.Struct, frozen=True):
    """Some deltas of one request; they are numbers `first`, `first + 1`, … of its deltas.

    The one that says a worker has taken the request, or still has it, holds none.
    """

    request_id: str
    worker: str
    first: int
    deltas: tuple[Delta, ...] = ()


class _Stream:
    """Where one request's deltas go, and how many went already."""

    __slots__ = ("num_sent", "reply_to")

    def __init__(self, reply_to: str) -> None:
        self.reply_to = reply_to
        self.num_sent = 0


class ReplyPublisher:
    """Publishes deltas from a thread of its own, all that wait together in one pipeline.

    While Redis is away deltas wait, for `PATIENCE_S`; a request that lost some is given up by its
    reader, not by us.
    """

    def __init__(
        self, client: redis.Redis, keys: Keys, worker: str, *, on_over: Callable[[Delta], None]
    ) -> None:
        self._redis: Any = client
        self._keys = keys
        self._worker = worker
        self._on_over = on_over
        self._queue: queue.SimpleQueue[tuple[Delta, ...] | None] = queue.SimpleQueue()
        self._streams: dict[str, _Stream] = {}
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Publish what waits, if Redis lets us at once, then stop."""
        self._is_stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def open(self, request_id: str, reply_to: str) -> None:
        """Begin a request's stream: tell its caller that this worker has it."""
        self._streams[request_id] = _Stream(reply_to)
        self._queue.put((Delta(request_id=request_id),))

    def send(self, deltas: tuple[Delta, ...]) -> None:
        """Publish deltas; `on_over` hears of the last one of each request, in this thread."""
        self._queue.put(deltas)
        for delta in deltas:
            if delta.is_last:
                self._on_over(delta)

    def fail(self, request_id: str, message: str) -> None:
        """End a request with an error that is no fault of its caller."""
        self._end(request_id, RequestError("worker_lost", message, retryable=True))

    def refuse(self, request_id: str, message: str) -> None:
        """End a request that cannot run, here or elsewhere."""
        self._end(request_id, RequestError("invalid_request", message, stage="validate"))

    def fail_all(self, message: str) -> None:
        """End every open request with such an error."""
        for request_id in list(self._streams):
            self.fail(request_id, message)

    def close(self, request_id: str) -> None:
        """Forget a request that nobody waits for; after its last delta this happens by itself."""
        self._streams.pop(request_id, None)

    def _end(self, request_id: str, error: RequestError) -> None:
        self.send((Delta(request_id, error=error, finish_reason="error", is_last=True),))

    @property
    def is_busy(self) -> bool:
        """Whether a request is open."""
        return bool(self._streams)

    def _run(self) -> None:
        kept_alive_s = time.monotonic()
        while True:
            batch = self._next_batch()
            replies = self._replies([delta for item in batch if item is not None for delta in item])
            if time.monotonic() - kept_alive_s > KEEPALIVE_S:
                kept_alive_s = time.monotonic()
                replies += self._keepalives()
            try:
                self._publish_patiently(replies)
            except Exception:  # the requests of this batch are cut short; all others go on
                logger.exception("cannot publish %d replies", len(replies))
            for reply in replies:
                self._advance(reply)
            if None in batch:
                return

    def _next_batch(self) -> list[tuple[Delta, ...] | None]:
        try:
            batch = [self._queue.get(timeout=KEEPALIVE_S)]
        except queue.Empty:
            return []
        while not self._queue.empty():
            batch.append(self._queue.get())
        return batch

    def _replies(self, deltas: list[Delta]) -> list[Reply]:
        grouped: dict[str, list[Delta]] = {}
        for delta in deltas:
            news = grouped.setdefault(delta.request_id, [])
            if not _is_empty(delta):
                news.append(delta)
        return [
            Reply(request_id, self._worker, stream.num_sent, tuple(news))
            for request_id, news in grouped.items()
            if (stream := self._streams.get(request_id)) is not None
        ]

    def _keepalives(self) -> list[Reply]:
        streams = list(self._streams.items())
        return [Reply(request_id, self._worker, stream.num_sent) for request_id, stream in streams]

    def _publish_patiently(self, replies: list[Reply]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        is_away = False
        while replies:
            try:
                self._publish(replies)
                return
            except redis.RedisError as error:
                if self._is_stopping.is_set() or time.monotonic() > deadline_s:
                    raise
                if not is_away:
                    logger.warning("%d replies wait for Redis: %s", len(replies), error)
                is_away = True
                self._is_stopping.wait(_RETRY_S)

    def _publish(self, replies: list[Reply]) -> None:
        """Send replies in one go. Doing it again harms nothing: readers and streams see doubles."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for reply in replies:
                self._add(pipeline, reply)
            for answer in pipeline.execute(raise_on_error=False):
                if isinstance(answer, redis.RedisError) and _SEEN not in str(answer):
                    raise answer

    def _add(self, pipeline: Any, reply: Reply) -> None:
        stream = self._streams.get(reply.request_id)
        if stream is None:  # nobody waits for it any more
            return
        body = msgspec.json.encode(reply)
        pipeline.publish(self._keys.reply(stream.reply_to), body)
        if reply.deltas:
            tail = self._keys.tail(reply.request_id)
            # The id is the number of the last delta within, so a reader can ask for what it lacks.
            number = reply.first + len(reply.deltas)
            pipeline.xadd(tail, {"reply": body}, id=f"{number}-0", maxlen=MAX_TAIL)
            pipeline.expire(tail, TAIL_KEPT_S)

    def _advance(self, reply: Reply) -> None:
        stream = self._streams.get(reply.request_id)
        if stream is not None and reply.deltas:
            stream.num_sent = reply.first + len(reply.deltas)
            if reply.deltas[-1].is_last:
                self._streams.pop(reply.request_id, None)


_SEEN = "equal or smaller than the target stream top item"


def _is_empty(delta: Delta) -> bool:
    is_silent = not (delta.text or delta.tool_calls or delta.token_ids)
    return is_silent and not (delta.finish_reason or delta.error)
