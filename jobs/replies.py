"""Text on its way back to who waits for it. Knows Redis and deltas, no engine and no HTTP.

Each reply goes two ways in one round trip: published on the channel of the API process that asked
(fast, but a slow subscriber is cut off and misses some), and appended to the request's own stream
(kept ten minutes). A reply's `first` tells the reader whether one is missing; the stream fills in.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from ..engine.outputs import RequestError
from .frames import Delta
from .keys import Keys

MAX_TAIL = 20_000
TAIL_KEPT_S = 600

logger = logging.getLogger(__name__)


class Reply(msgspec.Struct, frozen=True):
    """Some deltas of one request; they are numbers `first`, `first + 1`, … of its deltas.

    The one that says a worker has taken the request holds none.
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

    While Redis is away deltas wait; a request whose deltas cannot be sent for long is given up by
    its reader, not by us.
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
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Publish what waits, then stop."""
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
        error = RequestError(code="worker_lost", message=message, retryable=True)
        self.send((Delta(request_id, error=error, finish_reason="error", is_last=True),))

    def fail_all(self, message: str) -> None:
        """End every open request with such an error."""
        for request_id in list(self._streams):
            self.fail(request_id, message)

    def close(self, request_id: str) -> None:
        """Forget a request that nobody waits for; after its last delta this happens by itself."""
        self._streams.pop(request_id, None)

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            deltas = [delta for item in batch if item is not None for delta in item]
            self._publish(deltas)
            if None in batch:
                return

    def _publish(self, deltas: list[Delta]) -> None:
        grouped: dict[str, list[Delta]] = {}
        for delta in deltas:
            grouped.setdefault(delta.request_id, []).append(delta)
        with self._redis.pipeline(transaction=False) as pipeline:
            for request_id, items in grouped.items():
                stream = self._streams.get(request_id)
                if stream is not None:
                    self._add(pipeline, request_id, stream, items)
            try:
                pipeline.execute()
            except redis.RedisError as error:
                logger.warning("cannot publish %d deltas: %s", len(deltas), error)

    def _add(self, pipeline: Any, request_id: str, stream: _Stream, items: list[Delta]) -> None:
        is_opening = stream.num_sent == 0 and _is_empty(items[0])
        deltas = tuple(items[1:] if is_opening else items)
        reply = msgspec.json.encode(Reply(request_id, self._worker, stream.num_sent, deltas))
        pipeline.publish(self._keys.reply(stream.reply_to), reply)
        stream.num_sent += len(deltas)
        if deltas:
            tail = self._keys.tail(request_id)
            # The id is the number of the last delta within, so a reader can ask for what it lacks.
            pipeline.xadd(tail, {"reply": reply}, id=f"{stream.num_sent}-0", maxlen=MAX_TAIL)
            pipeline.expire(tail, TAIL_KEPT_S)
            if deltas[-1].is_last:
                self._streams.pop(request_id, None)


def _is_empty(delta: Delta) -> bool:
    return not (delta.text or delta.token_ids or delta.finish_reason or delta.error)
