"""Tells the world how a worker fares: its heartbeat, and how far its shards are. Never waits."""

import logging
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable

import msgspec
import redis

from .engine_process import EngineProcess
from .events import PROGRESS, JobEvents
from .frames import Progress, Ready
from .workers import HEARTBEAT_S, WorkerInfo, WorkerRegister, WorkerTotals

_TICK_S = 0.25
_SPEED_WINDOW_S = 3.0
_BUSY_WINDOW_S = 1.0  # with half of the slots taken or more

logger = logging.getLogger(__name__)


class Reporter:
    """Publishes a heartbeat every second, and progress of jobs at most four times a second.

    A worker whose engine does not serve (yet) has no heartbeat, so nobody sends it anything; one
    whose engine cannot be loaded says so.

    Attributes:
        tokens_per_s: the engine's speed over the last seconds.
        is_draining: set when the worker is about to stop.
    """

    def __init__(
        self,
        register: WorkerRegister,
        events: JobEvents,
        engine: EngineProcess,
        model: str,
        worker: str,
        *,
        count: Callable[[], WorkerTotals] = WorkerTotals,
    ) -> None:
        self.tokens_per_s = 0.0
        self._busy_tokens_per_s = 0.0
        self._busy_since: tuple[float, int] | None = None
        self.is_draining = False
        self._register = register
        self._events = events
        self._engine = engine
        self._count = count  # what the worker has counted; the engine tells its own
        self._model = model
        self._worker = worker
        self._started_at_ms = time.time_ns() // 1_000_000
        self._announced_at_s = 0.0
        self._samples: list[tuple[float, int]] = []
        self._told: dict[str, dict[str, int | float | str]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Start reporting."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop, and take the worker off the register."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_S):
            try:
                self._report()
            except redis.RedisError as error:
                logger.debug("no report: %s", error)  # custody says it once, for all
        try:
            self._register.withdraw(self._worker)
        except redis.RedisError as error:
            logger.debug("not withdrawn: %s", error)  # the heartbeat expires by itself

    def _report(self) -> None:
        ready, progress = self._engine.ready, self._engine.progress
        if ready is None or progress is None:
            self._samples.clear()
            if self._engine.trouble is not None and self._is_heartbeat_due():
                self._register.announce(self._excuse(self._engine.trouble))
            return
        self._measure(ready, progress)
        if self._is_heartbeat_due():
            self._register.announce(self._info(ready, progress))
        self._tell_jobs(progress)

    def _is_heartbeat_due(self) -> bool:
        is_due = time.monotonic() - self._announced_at_s >= HEARTBEAT_S
        if is_due:
            self._announced_at_s = time.monotonic()
        return is_due

    def _measure(self, ready: Ready, progress: Progress) -> None:
        now_s = time.monotonic()
        self._samples.append((now_s, progress.tokens))
        while now_s - self._samples[0][0] > _SPEED_WINDOW_S:
            del self._samples[0]
        first_s, first_tokens = self._samples[0]
        if now_s > first_s:
            self.tokens_per_s = (progress.tokens - first_tokens) / (now_s - first_s)
        if 2 * progress.running_rows < ready.slots:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = (now_s, progress.tokens)
        elif now_s - self._busy_since[0] >= _BUSY_WINDOW_S:
            begin_s, begin_tokens = self._busy_since
            speed = (progress.tokens - begin_tokens) / (now_s - begin_s)
            self._busy_tokens_per_s = max(self._busy_tokens_per_s, speed)
            self._busy_since = (now_s, progress.tokens)

    def _totals(self, progress: Progress) -> WorkerTotals:
        return msgspec.structs.replace(
            self._count(),
            prompt_tokens=progress.prompt_tokens,
            cached_tokens=progress.cached_tokens,
            generated_tokens=progress.tokens,
            preemptions=progress.preemptions,
        )

    def _info(self, ready: Ready, progress: Progress) -> WorkerInfo:
        return WorkerInfo(
            name=self._worker,
            model=self._model,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=ready.slots,
            running_rows=progress.running_rows,
            waiting_rows=progress.waiting_rows,
            tokens_per_s=round(self.tokens_per_s, 1),
            busy_tokens_per_s=round(self._busy_tokens_per_s, 1),
            kv_used_fraction=round(progress.kv_used_fraction, 4),
            started_at_ms=self._started_at_ms,
            proved_at_ms=progress.proved_at_ms,
            has_chat_template=ready.has_chat_template,
            max_model_len=ready.max_model_len,
            shards=len(progress.shards) + progress.unread_shards,
            is_draining=self.is_draining,
            totals=self._totals(progress),
            revision=ready.revision,
        )

    def _excuse(self, trouble: str) -> WorkerInfo:
        return WorkerInfo(
            name=self._worker,
            model=self._model,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=0,
            running_rows=0,
            waiting_rows=0,
            tokens_per_s=0.0,
            kv_used_fraction=0.0,
            started_at_ms=self._started_at_ms,
            proved_at_ms=0,
            has_chat_template=False,
            max_model_len=None,
            is_draining=True,
            not_ready=trouble,
        )

    def _tell_jobs(self, progress: Progress) -> None:
        """Publish what is done of each job's open shards here, when it has changed."""
        rows: defaultdict[str, int] = defaultdict(int)
        tokens: defaultdict[str, int] = defaultdict(int)
        for shard in progress.shards:
            rows[shard.job_id] += shard.rows
            tokens[shard.job_id] += shard.completion_tokens
        told = {}
        for job_id, num_rows in rows.items():
            told[job_id] = data = {
                "worker": self._worker,
                "rows_in_flight": num_rows,
                "completion_tokens_in_flight": tokens[job_id],
            }
            if data != self._told.get(job_id):
                speed = round(self.tokens_per_s, 1)
                self._events.publish(job_id, PROGRESS, {**data, "tokens_per_s": speed})
        self._told = told
