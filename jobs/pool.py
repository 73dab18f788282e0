"""Celery's pool for engine tasks: no thread and no process per task, only the engine's rows.

Knows Celery's protocol of pools; what a shard or a request is, `custody` and `replies` know.

    message -> on_apply -> (custody claims, engine runs, part lands, table commits) -> done
                                                                                        |
    ack, events, signals <- Celery's own trace of the task, whose body returns the outcome

Celery's trace runs when the work is over, so everything that Celery does around a task (signals,
events, results, acknowledgement) happens as with any other pool. All of that happens on the main
thread; other threads leave what they have to say in `_finished`.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery.concurrency.base import BasePool
from celery.platforms import EX_UNAVAILABLE
from celery.worker import state

from ..engine.outputs import RequestError
from .frames import (
    AbortRequest,
    Delta,
    ModelTrouble,
    ShardProgress,
    Unusable,
)
from .handle import Handle
from .model import ShardRef
from .settings import Settings
from .station import Station
from .tasks import ENGINE_TASKS, GENERATE, RequestFailed, shard_of

TICK_S = 0.25
_PROGRESS_EVENT_S = 1.0
_MIN_OPEN_SHARDS = 2
_WINDOW = 2  # rows taken in, as a multiple of the rows that the engine can run at once
_EXPRESS_MESSAGES = 1_000
_SIDE_THREADS = 2

Outcome = str | Exception

logger = logging.getLogger(__name__)


class EnginePool(BasePool):
    """Hands engine tasks to the engine process and everything else to two threads."""

    task_join_will_block = False
    signal_safe = False
    body_can_be_buffer = True
    uses_semaphore = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        app: Any = self.app
        if app.assignment is None:
            raise ValueError("an application for workers needs an assignment: see `worker`")
        self.station = Station(
            app,
            app.assignment.model,
            app.assignment.worker,
            on_request_over=self._on_request_over,
            on_unusable=self._on_unusable,
        )
        self._settings: Settings = app.settings
        self._outcomes: dict[str, Any] = app.outcomes
        self._hub: Any = None
        self._in_flight: dict[str, Handle] = {}
        self._finished: deque[tuple[Handle, Outcome]] = deque()
        self._has_news = threading.Event()
        self._side: ThreadPoolExecutor | None = None
        self._told_at_s = 0.0
        self._is_stopping = False

    # What the lanes ask.

    @property
    def model(self) -> str:
        """The model that is served here."""
        return self.station.model

    def has_bulk_room(self) -> bool:
        """Whether another shard should be taken: the window of rows is not full."""
        ready = self.station.engine.ready
        if ready is None or self._is_stopping or self.station.custody.is_elsewhere:
            return False
        open_shards = [handle for handle in self._in_flight.values() if handle.ref is not None]
        if len(open_shards) < _MIN_OPEN_SHARDS:
            return True
        num_rows = sum(int(handle.kwargs.get("rows", ready.slots)) for handle in open_shards)
        reports = self._shard_reports()
        shards = [reports[handle.ref] for handle in open_shards if handle.ref in reports]
        num_waiting = num_rows - sum(shard.rows + shard.suspects for shard in shards)
        return num_waiting < _WINDOW * ready.slots

    def has_express_room(self) -> bool:
        """Whether another request or chore may be taken."""
        is_ready = self.station.engine.ready is not None
        return is_ready and not self._is_stopping and len(self._in_flight) < _EXPRESS_MESSAGES

    # What Celery asks.

    def on_start(self) -> None:
        """Start the engine process and all that serves it."""
        self._side = ThreadPoolExecutor(_SIDE_THREADS, thread_name_prefix="chore")
        self.station.start()

    def register_with_event_loop(self, loop: Any) -> None:
        """Join the loop; called again after every reconnection to Redis."""
        self._hub = loop
        loop.call_repeatedly(TICK_S, self._tick)

    def on_apply(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, target: Callable[..., Any], args: Any = None, kwargs: Any = None, **options: Any
    ) -> Handle:
        """Take a task. Never raises: Celery would forget the message without an acknowledgement."""
        handle = Handle(target, args, options, on_terminate=self.abort)
        options["accept_callback"](os.getpid(), handle.accepted_at_s)
        if handle.name not in ENGINE_TASKS:
            assert self._side is not None
            self._in_flight[handle.task_id] = handle
            self._side.submit(self._run_chore, handle)
            return handle
        earlier = self._in_flight.get(handle.task_id)
        if earlier is not None:  # delivered again after a lost connection, and still running here
            earlier.options = options
            return earlier
        self._in_flight[handle.task_id] = handle
        try:
            self._begin(handle)
        except Exception as error:  # a message from another version of Penstock, say
            logger.exception("cannot begin %s", handle.name)
            self._finish(handle, error)
        return handle

    def abort(self, handle: Handle) -> None:
        """Stop a task's work; Celery has told the world already that it is over."""
        self._drain()  # it may be over indeed
        if self._in_flight.pop(handle.task_id, None) is None:
            return
        if handle.ref is not None:
            self.station.custody.abandon(handle.ref)
        elif handle.name in ENGINE_TASKS:
            self.station.engine.send(AbortRequest(handle.task_id))
            self.station.replies.close(handle.task_id)

    def on_stop(self) -> None:
        """Let rows finish for as long as the settings grant, then hand shards back and stop.

        Shards that have not begun go back at once. Of one that is not done in time the rows that
        have ended are kept, for whoever runs it next.
        """
        self._is_stopping = True
        self.station.reporter.is_draining = True
        self.station.custody.drain()
        deadline_s = time.monotonic() + self._settings.grace_s
        if self._in_flight:
            grace = f"{self._settings.grace_s:g} s"
            logger.info("stopping: %d tasks have %s to finish", len(self._in_flight), grace)
        while self._in_flight and time.monotonic() < deadline_s and state.should_terminate is None:
            self._has_news.wait(TICK_S)
            self._has_news.clear()
            self._drain()
        self._close()

    def on_terminate(self) -> None:
        """Stop at once."""
        self._is_stopping = True
        self._close()

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Do nothing: a task has no process of its own, `Handle.terminate` stops it."""

    def grow(self, n: int = 1) -> None:
        """Do nothing: the engine's slots are fixed when it is loaded."""

    def shrink(self, n: int = 1) -> None:
        """Do nothing: the engine's slots are fixed when it is loaded."""

    def _get_info(self) -> dict[str, Any]:
        """Return what Flower shows on the worker's pool page."""
        progress = self.station.engine.progress
        info = {**super()._get_info(), "model": self.model, "tasks in flight": len(self._in_flight)}
        if progress is not None:
            info["rows running"] = progress.running_rows
            info["rows waiting"] = progress.waiting_rows
            info["KV cache used"] = f"{progress.kv_used_fraction:.0%}"
            info["tokens per second"] = round(self.station.reporter.tokens_per_s)
        return {**info, "processes": [self.station.engine.pid]}

    # A task's way.

    def _begin(self, handle: Handle) -> None:
        if handle.name == GENERATE:
            handle.ref = shard_of(handle.kwargs)
            self.station.custody.open(handle.ref, lambda outcome: self._post(handle, outcome))
            return
        self.station.begin_request(handle.task_id, handle.kwargs)

    def _run_chore(self, handle: Handle) -> None:
        try:
            result = handle.target(*handle.arguments)
        except BaseException as error:
            self._post(handle, error if isinstance(error, Exception) else RuntimeError(repr(error)))
        else:
            self._post(handle, result)

    def _on_request_over(self, delta: Delta) -> None:
        handle = self._in_flight.get(delta.request_id)
        if handle is not None:
            self._post(handle, _request_outcome(delta))

    def _on_unusable(self, unusable: Unusable) -> None:
        logger.critical("%s", unusable.message)
        is_outdated = unusable.trouble is ModelTrouble.OUTDATED
        state.should_stop = os.EX_TEMPFAIL if is_outdated else EX_UNAVAILABLE  # the loop looks

    def _post(self, handle: Handle, outcome: Any) -> None:
        """Say from any thread how a task ended."""
        self._finished.append((handle, outcome))
        self._has_news.set()
        if self._hub is not None:
            self._hub.call_soon(self._drain)

    def _drain(self) -> None:
        while self._finished:
            handle, outcome = self._finished.popleft()
            if self._in_flight.get(handle.task_id) is handle:
                self._finish(handle, outcome)

    def _finish(self, handle: Handle, outcome: Any) -> None:
        """Run Celery's trace of a task whose work is over."""
        self._in_flight.pop(handle.task_id, None)
        try:
            if handle.name not in ENGINE_TASKS:
                handle.report(outcome)
                return
            self._outcomes[handle.task_id] = outcome
            failed, result, _ = handle.target(*handle.arguments)
            runtime_s = time.monotonic() - handle.accepted_at_s
            handle.report((failed, result, runtime_s))
            logger.info("%s: %s, %.2f s", handle.title, outcome, runtime_s)
        except Exception:  # Celery could not be told; the work itself is safe
            logger.exception("cannot finish task %s", handle.task_id)
        finally:
            self._outcomes.pop(handle.task_id, None)

    def _tick(self) -> None:
        self._drain()
        self._enforce_time_limits()
        if time.monotonic() - self._told_at_s >= _PROGRESS_EVENT_S:
            self._told_at_s = time.monotonic()
            self._tell_progress()

    def _enforce_time_limits(self) -> None:
        now_s = time.monotonic()
        for handle in list(self._in_flight.values()):
            age_s = now_s - handle.accepted_at_s
            soft_s, hard_s = handle.options.get("soft_timeout"), handle.options.get("timeout")
            if hard_s and age_s > hard_s:
                self.abort(handle)
                handle.options["timeout_callback"](False, hard_s)
            elif soft_s and age_s > soft_s:
                handle.options["timeout_callback"](True, soft_s)
                self.abort(handle)
                self._finish(handle, SoftTimeLimitExceeded(soft_s))

    def _tell_progress(self) -> None:
        """Let Flower show rows and speed of every shard while it runs."""
        reports = self._shard_reports()
        speed = f"{self.station.reporter.tokens_per_s:.0f} tok/s"
        for handle in self._in_flight.values():
            if handle.ref in reports:
                shard = reports[handle.ref]
                handle.tell_progress(f"{shard.rows}/{shard.total} rows · {speed}")

    def _shard_reports(self) -> dict[ShardRef | None, ShardProgress]:
        progress = self.station.engine.progress
        shards = progress.shards if progress is not None else ()
        return {ShardRef(shard.job_id, shard.index): shard for shard in shards}

    def _close(self) -> None:
        self.station.stop()
        self._drain()  # what went back, or failed, just now
        if self._side is not None:
            self._side.shutdown(wait=False, cancel_futures=True)


def _request_outcome(delta: Delta) -> Outcome:
    error: RequestError | None = delta.error
    if error is not None:
        return RequestFailed(f"{error.code}: {error.message}")
    return f"{delta.finish_reason} · {delta.completion_tokens} tokens"
