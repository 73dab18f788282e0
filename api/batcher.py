"""Requests of existing code, gathered into bulk jobs. `async_batcher` is the twin for asyncio.

Knows threads and futures. What a job is told is written in `batch_calls`, and when enough wait to
become one is known by `batch_queue`.

    submit -> waiting -> under way (one thread per open job) -> answered, or failed alone
"""

import logging
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeAlias

from .batch_calls import run_requests
from .batch_chat import BatchChat
from .batch_options import BatchOptions, Question
from .batch_queue import LEFT, Ask, Batch, BatchLimits, BatchQueue, unforeseen
from .client_errors import PenstockError
from .connection import Connection
from .job_calls import cancel_job
from .records import ChatAnswer, JobRecord
from .retry_policy import RetryPolicy

_Batch: TypeAlias = Batch[Future[ChatAnswer]]

_LEAVING_S = 5.0  # how long those are waited for whose answers nobody wants any more

logger = logging.getLogger(__name__)


class Batcher:
    """Turns requests into bulk jobs; use it in a `with`, whose end waits for all answers.

        with client.batcher(model="m", sampling={"max_tokens": 64}) as batch:
            futures = [batch.submit(f"Classify: {text}") for text in texts]
        answers = [future.result().text for future in futures]

    An exception in the block cancels what has no answer yet. `submit` waits while too much is under
    way, so a loop over ten million texts does not hold them all.
    """

    def __init__(self, connection: Connection, options: BatchOptions, limits: BatchLimits) -> None:
        self.chat = BatchChat(lambda *args, **said: self.submit(*args, **said).result())
        self._connection = connection
        self._options = options
        self._limits = limits
        self._queue: BatchQueue[Future[ChatAnswer]] = BatchQueue(limits)
        self._lock = threading.Lock()
        self._work_arrived = threading.Condition(self._lock)
        self._room_made = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._num_idle = 0
        self._under_way: dict[int, _Batch] = {}  # by the identity of the batch
        self._jobs: dict[int, str] = {}  # the ids of theirs that the server knows
        self._is_closed = False
        self._is_left = False  # nobody wants the answers any more

    def submit(
        self, question: Question, *, model: str | None = None, **sampling: Any
    ) -> Future[ChatAnswer]:
        """Ask for an answer, which comes with the others of its job.

        Args:
            question: a text, which is one user message; a list of messages; or, where the batcher
                has a template, a row for it.
            model: another model than the batcher's.
            sampling: OpenAI's names for this request, such as `temperature=0, tools=[…]`.

        Returns:
            A future of the answer. It raises `RowFailed` if this request failed, `JobFailed` if its
            job ended before it ran, and other errors of the client if the job could not be made.

        Raises:
            InvalidInput: the request cannot be sent.
            PenstockError: the batcher is closed.
        """
        model, request = self._options.request(question, model, sampling)
        future: Future[ChatAnswer] = Future()
        with self._lock:
            # One of ours, in the callback of a future, must not wait for itself to make room.
            is_ours = threading.current_thread() in self._threads
            while self._queue.is_full and not self._is_closed and not is_ours:
                self._room_made.wait()
            if self._is_closed:
                raise PenstockError("the batcher is closed; submit within its `with` block")
            self._queue.add(model, Ask(request, future, time.monotonic()))
            self._see_to_a_thread()
            self._work_arrived.notify()
        return future

    @property
    def num_waiting(self) -> int:
        """How many requests wait to be sent."""
        with self._lock:
            return self._queue.num_waiting

    def flush(self) -> None:
        """Send what waits now, without waiting for more."""
        with self._lock:
            self._queue.hasten(time.monotonic())
            self._work_arrived.notify_all()

    def close(self) -> None:
        """Send what waits, and wait for all answers. Closing twice does no harm."""
        self._end()
        try:
            for thread in self._threads:
                thread.join()
        except BaseException:  # an impatient Ctrl-C
            self._leave()
            raise

    def __enter__(self) -> Self:
        """Enter a block whose end waits for all answers."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for all answers; after an exception, cancel what has none."""
        if error is None:
            self.close()
        else:
            self._leave()

    def _see_to_a_thread(self) -> None:
        """Have somebody there to take what waits."""
        if self._num_idle or len(self._threads) >= self._limits.max_jobs:
            return
        # Daemonic only as a net, for a batcher that nobody closes.
        thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._threads.append(thread)
        self._num_idle += 1
        thread.start()

    def _work(self) -> None:
        """Take a job's worth of requests after the other and see them answered."""
        while (batch := self._next()) is not None:
            try:
                self._run(batch)
            except PenstockError as error:
                batch.settle_all(error)
            except Exception as error:  # whatever it is, nobody may wait for ever
                logger.exception("a bulk job could not be followed")
                batch.settle_all(unforeseen(error))
            finally:
                batch.settle_all(PenstockError(LEFT))
                with self._lock:
                    self._num_idle += 1
                    del self._under_way[id(batch)]
                    self._jobs.pop(id(batch), None)

    def _run(self, batch: _Batch) -> None:
        def is_wanted(record: JobRecord) -> bool:
            with self._lock:
                self._jobs[id(batch)] = record.id
                return not self._is_left

        talk = run_requests(
            batch.requests,
            self._options.for_job(batch.model),
            self._connection.retry,
            is_wanted=is_wanted,
            on_outcome=batch.settle,
        )
        self._connection.run(talk)

    def _next(self) -> _Batch | None:
        """Wait for requests that are due; None once there will be no more."""
        with self._lock:
            while True:
                now_s = time.monotonic()
                batch = self._queue.take(now_s)
                if batch is not None:
                    asks = [a for a in batch.asks if a.future.set_running_or_notify_cancel()]
                    self._room_made.notify_all()
                    if not asks:
                        continue
                    batch = Batch(batch.model, asks)
                    self._num_idle -= 1
                    self._under_way[id(batch)] = batch
                    if self._queue.num_waiting:
                        self._see_to_a_thread()
                        self._work_arrived.notify()  # somebody else minds the next
                    return batch
                if self._is_closed:
                    return None
                self._work_arrived.wait(self._queue.due_in_s(now_s))

    def _end(self) -> None:
        """Take nothing more, and send what waits."""
        with self._lock:
            self._is_closed = True
            self._queue.hasten(float("inf"))
            self._work_arrived.notify_all()
            self._room_made.notify_all()

    def _leave(self) -> None:
        """Cancel all that has no answer."""
        with self._lock:
            self._is_left = True
            waiting = self._queue.drain()
            jobs = [*self._jobs.values()]
        self._end()
        for ask in waiting:
            ask.future.cancel()
        for job_id in jobs:
            with suppress(PenstockError):  # it may have ended, or the server be away
                self._connection.run(cancel_job(job_id, RetryPolicy(max_retries=0)))
        deadline_s = time.monotonic() + _LEAVING_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        with self._lock:
            left = [*self._under_way.values()]
        for batch in left:
            batch.settle_all(PenstockError(LEFT))
