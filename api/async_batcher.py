"""Coroutines' requests, gathered into bulk jobs: the twin of `batcher` for asyncio."""

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from .batch_calls import run_requests
from .batch_chat import AsyncBatchChat
from .batch_options import BatchOptions, Question
from .batch_queue import LEFT, Ask, Batch, BatchLimits, BatchQueue, unforeseen
from .client_errors import PenstockError
from .connection import AsyncConnection
from .job_calls import cancel_job
from .records import ChatAnswer, JobRecord
from .retry_policy import RetryPolicy

_Batch: TypeAlias = Batch[asyncio.Future[ChatAnswer]]

_LEAVING_S = 5.0  # how long those are waited for whose answers nobody wants any more

logger = logging.getLogger(__name__)


class AsyncBatcher:
    """Turns many coroutines' requests into bulk jobs; use it in an `async with`.

        async with client.batcher(model="m") as batch:
            answers = await asyncio.gather(*(batch.chat(text) for text in texts))

    The end of the block waits for all that was asked; an exception in it cancels that. A coroutine
    that is cancelled gives its request up, and a job that nobody waits for is cancelled.
    """

    def __init__(
        self, connection: AsyncConnection, options: BatchOptions, limits: BatchLimits
    ) -> None:
        self.chat = AsyncBatchChat(self._ask)
        self._connection = connection
        self._options = options
        self._limits = limits
        self._queue: BatchQueue[asyncio.Future[ChatAnswer]] = BatchQueue(limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._room = asyncio.Semaphore(2 * limits.max_rows)
        self._under_way: dict[asyncio.Task[None], _Batch] = {}
        self._jobs: dict[int, str] = {}  # by the identity of the batch
        self._num_wanted: dict[int, int] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def _ask(
        self, question: Question, *, model: str | None = None, **sampling: Any
    ) -> ChatAnswer:
        """Ask, and wait for the answer; the arguments and errors are those of `Batcher.submit`."""
        model, request = self._options.request(question, model, sampling)
        loop = self._check_open()
        future: asyncio.Future[ChatAnswer] = loop.create_future()
        await self._room.acquire()
        try:
            self._check_open()
        except PenstockError:
            self._room.release()
            raise
        self._queue.add(model, Ask(request, future, time.monotonic()))
        self._mind()
        return await future  # which is cancelled with whoever waits for it

    @property
    def num_waiting(self) -> int:
        """How many requests wait to be sent."""
        return self._queue.num_waiting

    def flush(self) -> None:
        """Send what waits now, without waiting for more."""
        self._queue.hasten(time.monotonic())
        self._start()

    async def close(self) -> None:
        """Send what waits, and wait for all answers. Closing twice does no harm."""
        self._is_closed = True
        self._queue.hasten(float("inf"))
        self._start()
        try:
            while self._under_way or self._errands:
                await asyncio.wait([*self._under_way, *self._errands])
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def __aenter__(self) -> Self:
        """Enter a block whose end waits for all answers."""
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for all answers; after an exception, cancel what has none."""
        if error is None:
            await self.close()
        else:
            await self._leave()

    def _check_open(self) -> asyncio.AbstractEventLoop:
        running = asyncio.get_running_loop()
        self._loop = self._loop or running
        if self._loop is not running:
            raise PenstockError("the batcher belongs to another event loop; make one for each")
        if self._is_closed:
            raise PenstockError("the batcher is closed; ask within its `async with` block")
        return running

    def _mind(self) -> None:
        """Come back for what waits when it is due; in the next turn of the loop at the soonest."""
        due_in_s = self._queue.due_in_s(time.monotonic())
        if due_in_s is None or len(self._under_way) >= self._limits.max_jobs:
            return
        if self._timer is not None:
            if due_in_s:
                return  # it comes for those that wait longest, or has come already
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(due_in_s, self._start)

    def _start(self) -> None:
        """Send all that is due, as far as there may be jobs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self._under_way) < self._limits.max_jobs:
            batch = self._queue.take(time.monotonic())
            if batch is None:
                break
            for _ in batch.asks:
                self._room.release()
            asks = [ask for ask in batch.asks if not ask.future.done()]
            if asks:
                self._begin(Batch(batch.model, asks))
        self._mind()

    def _begin(self, batch: _Batch) -> None:
        self._num_wanted[id(batch)] = len(batch.asks)
        for ask in batch.asks:
            ask.future.add_done_callback(partial(self._one_less, batch))
        task = asyncio.ensure_future(self._see_answered(batch))
        self._under_way[task] = batch
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        batch = self._under_way.pop(task)
        batch.settle_all(PenstockError(LEFT))
        self._jobs.pop(id(batch), None)
        del self._num_wanted[id(batch)]
        self._start()

    async def _see_answered(self, batch: _Batch) -> None:
        def is_wanted(record: JobRecord) -> bool:
            self._jobs[id(batch)] = record.id
            return self._num_wanted[id(batch)] > 0

        talk = run_requests(
            batch.requests,
            self._options.for_job(batch.model),
            self._connection.retry,
            is_wanted=is_wanted,
            on_outcome=batch.settle,
        )
        try:
            await self._connection.run(talk)
        except PenstockError as error:
            batch.settle_all(error)
        except Exception as error:  # whatever it is, nobody may wait for ever
            logger.exception("a bulk job could not be followed")
            batch.settle_all(unforeseen(error))

    def _one_less(self, batch: _Batch, future: asyncio.Future[ChatAnswer]) -> None:
        """Count one less who waits for a job: after the last, what was given up need not run."""
        if id(batch) not in self._num_wanted:  # the job has ended
            return
        self._num_wanted[id(batch)] -= 1
        is_unwanted = self._num_wanted[id(batch)] == 0
        if is_unwanted and any(ask.future.cancelled() for ask in batch.asks):
            self._cancel_job(batch)

    def _cancel_job(self, batch: _Batch) -> None:
        """Have the batch's job cancelled; one that is being made is, once it is there."""
        job_id = self._jobs.pop(id(batch), None)
        if job_id is not None:
            errand = asyncio.ensure_future(self._try_to_cancel(job_id))
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)

    async def _try_to_cancel(self, job_id: str) -> None:
        with suppress(PenstockError):  # it may have ended, or the server be away
            await self._connection.run(cancel_job(job_id, RetryPolicy(max_retries=0)))

    async def _leave(self) -> None:
        """Cancel all that has no answer."""
        self._is_closed = True
        for ask in self._queue.drain():
            self._room.release()
            ask.future.cancel()
        for batch in self._under_way.values():
            self._cancel_job(batch)
            for ask in batch.asks:
                ask.future.cancel()
        tasks = [*self._under_way, *self._errands]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LEAVING_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
