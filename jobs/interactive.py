"""The API's end of the interactive lane: a request goes out as a Celery task, text comes back.

Knows Celery, Redis and asyncio, no HTTP. Nothing of Celery ever runs on the event loop: publishing
may block for seconds when the broker is frozen, so a thread of its own does it.
"""

import asyncio
import contextlib
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

import kombu.exceptions
import msgspec
import redis

from ..engine.outputs import RequestError
from .app import create_app
from .frames import Delta, InteractiveRequest
from .keys import Keys
from .messages import send_request
from .redis_client import connect_async
from .replies import Reply
from .settings import Settings
from .workers import AsyncWorkerRegister

__all__ = ["Delta", "InteractiveLane", "InteractiveRequest", "NoWorker", "QueueUnavailable"]

PUBLISH_TIMEOUT_S = 2.0
TAKEN_TIMEOUT_S = 15.0  # from published to taken by a worker
QUIET_LIMIT_S = 40.0  # a worker speaks of every request it has far more often than that
_LOOK_S = 1.0  # how often a quiet request looks for lost replies and for its worker
_MAX_WAITING = 1_000
_MAX_BACKLOG = 256  # replies kept for one reader; a slower one reads on from the request's stream

logger = logging.getLogger(__name__)


class NoWorker(Exception):
    """No live worker serves the model, or takes the request; try again when one has started."""


class QueueUnavailable(Exception):
    """The queue could not take the request: Redis is away, frozen or full. Worth trying again."""


class InteractiveLane:
    """Sends interactive requests and yields their deltas. `open` and `close` come in pairs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.namespace)
        self._api_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._streams: dict[str, asyncio.Queue[Reply | None]] = {}
        self._publisher = _Publisher(settings, self._api_id)
        self._redis: Any = connect_async(settings, socket_timeout_s=PUBLISH_TIMEOUT_S)
        self._workers = AsyncWorkerRegister(self._redis, self._keys)
        self._listener: asyncio.Task[None] | None = None
        self._is_listening = asyncio.Event()

    async def open(self) -> None:
        """Start listening and publishing. Redis may still be away."""
        self._publisher.start()
        self._listener = asyncio.create_task(self._listen())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_listening.wait(), 1.0)

    async def close(self) -> None:
        """Stop; streams that still run end with an error."""
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        await asyncio.to_thread(self._publisher.stop)
        await self._redis.aclose()

    async def generate(self, request: InteractiveRequest) -> AsyncGenerator[Delta, None]:
        """Run a request; yield its deltas as they come, the last one with `is_last`.

        Leaving the loop early aborts the request in the engine. A failure after the start comes
        as a delta with an error.

        Raises:
            NoWorker: nobody serves the model, or whoever does is frozen.
            QueueUnavailable: the request could not be handed over.
        """
        await self._check_served(request.model)
        stream: asyncio.Queue[Reply | None] = asyncio.Queue(_MAX_BACKLOG)
        self._streams[request.request_id] = stream
        is_over = False
        try:
            await self._publish(request)
            async for delta in self._follow(request, stream):
                is_over = is_over or delta.is_last
                yield delta
        finally:
            del self._streams[request.request_id]
            if not is_over:
                self._publisher.abort(request.request_id)

    async def _check_served(self, model: str) -> None:
        try:
            serving = await self._workers.serving(model)
        except (redis.RedisError, OSError) as error:
            raise QueueUnavailable(f"Redis does not answer: {error}") from error
        if not serving:
            served = sorted({info.model for info in await self._workers.list()})
            raise NoWorker(
                f"no live worker serves {model!r}; served now: {', '.join(served) or 'nothing'}"
            )

    async def _publish(self, request: InteractiveRequest) -> None:
        """Wait until a request is in Redis; behind many others it may wait while those go out."""
        try:
            sent = asyncio.wrap_future(self._publisher.send(request))
            try:
                while not sent.done():
                    num_sent = self._publisher.num_sent
                    await asyncio.wait({sent}, timeout=PUBLISH_TIMEOUT_S)
                    if not sent.done() and self._publisher.num_sent == num_sent:
                        raise TimeoutError(f"nothing was sent for {PUBLISH_TIMEOUT_S:g} s")
            finally:
                sent.cancel()
            sent.result()
        except (queue.Full, TimeoutError, redis.RedisError, OSError) as error:
            raise QueueUnavailable(f"Redis does not take the request: {error!r}") from error
        except kombu.exceptions.KombuError as error:
            raise QueueUnavailable(f"Redis does not take the request: {error}") from error

    async def _follow(
        self, request: InteractiveRequest, stream: asyncio.Queue[Reply | None]
    ) -> AsyncIterator[Delta]:
        num_seen, worker = 0, None
        heard_at_s = time.monotonic()
        while True:
            replies: list[Reply] = []
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(_LOOK_S):
                    reply = await stream.get()
                if reply is not None and reply.first <= num_seen:
                    replies = [reply]
            if not replies:  # quiet, a gap, or a new subscription: the stream knows
                replies = await self._read_tail(request.request_id, num_seen)
                quiet_s = time.monotonic() - heard_at_s
                if not replies and worker is None and quiet_s > TAKEN_TIMEOUT_S:
                    raise NoWorker(f"no worker took the request in {TAKEN_TIMEOUT_S:.0f} s")
                if not replies and worker is not None and not await self._is_alive(worker):
                    yield _lost(request.request_id, f"worker {worker} died")
                    return
                if not replies and quiet_s > QUIET_LIMIT_S:
                    message = f"nothing was heard of it for {QUIET_LIMIT_S:.0f} s"
                    yield _lost(request.request_id, message)
                    return
            for reply in replies:
                worker, heard_at_s = reply.worker, time.monotonic()
                if reply.first > num_seen:
                    yield _lost(request.request_id, "part of the answer was lost on its way")
                    return
                for delta in reply.deltas[num_seen - reply.first :]:
                    num_seen += 1
                    yield delta
                    if delta.is_last:
                        return

    async def _read_tail(self, request_id: str, num_seen: int) -> list[Reply]:
        try:
            entries = await self._redis.xrange(
                self._keys.tail(request_id), min=f"{num_seen + 1}-0", count=1000
            )
        except (redis.RedisError, OSError):
            return []
        replies = (_read_reply(fields["reply"]) for _, fields in entries)
        return [reply for reply in replies if reply is not None]

    async def _is_alive(self, worker: str) -> bool:
        try:
            return any(info.name == worker for info in await self._workers.list())
        except (redis.RedisError, OSError):
            return True  # nobody knows; Redis being away is no reason to give up text

    async def _listen(self) -> None:
        channel = self._keys.reply(self._api_id)
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(channel)
                    self._is_listening.set()
                    for stream in self._streams.values():
                        _tell(stream, None)  # something may have been said meanwhile
                    while True:
                        message = await subscription.get_message(timeout=1.0)
                        if message is not None:
                            self._deliver(message["data"])
            except (redis.RedisError, OSError) as error:
                logger.warning("replies cannot be received, trying again: %s", error)
                await asyncio.sleep(0.5)

    def _deliver(self, data: str) -> None:
        reply = _read_reply(data)
        stream = self._streams.get(reply.request_id) if reply is not None else None
        if stream is not None:
            _tell(stream, reply)


class _Publisher:
    """The thread that talks Celery for the event loop."""

    def __init__(self, settings: Settings, api_id: str) -> None:
        self._app = create_app(settings, socket_timeout_s=PUBLISH_TIMEOUT_S)
        self.num_sent = 0
        self._api_id = api_id
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
            self._thread.join(PUBLISH_TIMEOUT_S)
        self._app.close()

    def send(self, request: InteractiveRequest) -> Future[None]:
        """Publish a request; the future says when it is in Redis."""
        future: Future[None] = Future()

        def publish() -> None:
            if not future.set_running_or_notify_cancel():
                return  # its caller has given up already
            try:
                send_request(self._app, request, self._api_id)
            except Exception as error:
                future.set_exception(error)
            else:
                self.num_sent += 1
                future.set_result(None)

        self._queue.put_nowait(publish)
        return future

    def abort(self, request_id: str) -> None:
        """Tell all workers that nobody waits for a request any more."""
        with contextlib.suppress(queue.Full):  # it would only save work
            self._queue.put_nowait(lambda: self._app.control.revoke(request_id, terminate=True))

    def _run(self) -> None:
        while (publish := self._queue.get()) is not None:
            try:
                publish()
            except Exception as error:  # Redis is away: an abort is a courtesy
                logger.warning("could not publish: %s", error)


def _tell(stream: asyncio.Queue[Reply | None], news: Reply | None) -> None:
    """Pass news on to a reader who keeps up; another one finds the gap, and then what is in it."""
    with contextlib.suppress(asyncio.QueueFull):
        stream.put_nowait(news)


def _read_reply(data: str) -> Reply | None:
    try:
        return msgspec.json.decode(data, type=Reply)
    except msgspec.DecodeError as error:  # of another version: its reader finds a gap
        logger.warning("not a reply: %s", error)
        return None


def _lost(request_id: str, message: str) -> Delta:
    error = RequestError(code="worker_lost", message=message, retryable=True)
    return Delta(request_id=request_id, error=error, finish_reason="error", is_last=True)
