"""Keeps a small window of shards in the Celery queues: enough for the workers, and no more.

A short queue is what makes priorities, fair shares, pause and cancel act at once, whatever was
submitted before. Only the leader among the keepers feeds (see `keeper`).
"""

import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import kombu.exceptions

from .app import PenstockApp
from .errors import CorruptJob, UnknownJob
from .fair_share import Candidate, FairShare
from .job_dir import JobDir
from .job_table import JobTable
from .messages import send_shards
from .model import JobSpec
from .workers import WorkerInfo, WorkerRegister

LEAST_SHARDS = 4  # waiting in the queue, per worker
ROWS_PER_SLOT = 2
_FACTS_AGE_S = 2.0
_COST_UNKNOWN = 256.0  # tokens per row, until a job has landed some
_LOST_AFTER_MS = 2_000  # a message that left an empty queue and claimed nothing is lost
_STALE_AFTER_MS = 30_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the feeder remembers of a job for a little while."""

    spec: JobSpec
    is_open: bool
    candidate: Candidate
    read_at_s: float


class Feeder:
    """Issues shards of open jobs to the queues of the models that live workers serve."""

    def __init__(self, app: PenstockApp, table: JobTable, register: WorkerRegister) -> None:
        self._app = app
        self._table = table
        self._register = register
        self._share = FairShare()
        self._facts: dict[str, _Facts] = {}

    def feed(self) -> int:
        """Top up every queue; returns how many shards were issued."""
        room = self._room()
        if not room:
            return 0
        jobs = self._open_jobs()
        self._share.retain([facts.candidate for facts in jobs])
        by_model: dict[str, list[_Facts]] = defaultdict(list)
        for facts in jobs:
            by_model[facts.spec.task.model].append(facts)
        return sum(
            self._feed_model(by_model[model], target)
            for model, target in room.items()
            if model in by_model
        )

    def reissue(self) -> int:
        """Hand back shards whose message was lost, as kombu loses about one per killed worker."""
        num_reissued = 0
        for facts in self._open_jobs():
            lane = self._app.lane("bulk", facts.spec.task.model)
            is_empty = not self._redis.llen(lane.name)
            older_than_ms = _LOST_AFTER_MS if is_empty else _STALE_AFTER_MS
            job_id = facts.spec.job_id
            lost = self._table.reissue_stale(job_id, older_than_ms, limit=100)
            if lost:
                logger.info("%s: the messages of %d shards were lost", job_id, len(lost))
            num_reissued += len(lost)
        return num_reissued

    def _feed_model(self, jobs: list[_Facts], target: int) -> int:
        num_queued = sum(self._table.window(facts.spec.job_id) for facts in jobs)
        by_id = {facts.spec.job_id: facts for facts in jobs}
        candidates = {facts.candidate for facts in jobs}
        num_issued = 0
        while num_queued + num_issued < target:
            chosen = self._share.choose(candidates)
            if chosen is None:
                break
            wanted = 1 if len(candidates) > 1 else target - num_queued - num_issued
            indexes = self._table.issue(chosen.job_id, wanted)
            if len(indexes) < wanted:
                candidates.discard(chosen)
            if indexes:
                self._share.charge(chosen, len(indexes))
                self._publish(by_id[chosen.job_id].spec, indexes)
                num_issued += len(indexes)
        return num_issued

    def _publish(self, spec: JobSpec, indexes: list[int]) -> None:
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                send_shards(self._app, spec, indexes, producer)
        except kombu.exceptions.OperationalError as error:
            # They count as queued and will be found missing; nothing is lost.
            logger.warning("cannot publish %d shards of %s: %s", len(indexes), spec.job_id, error)

    def _room(self) -> dict[str, int]:
        """Count for each served model how many shards should be waiting in its queue."""
        room: dict[str, int] = defaultdict(int)
        for info in self._register.list():
            if not info.is_draining:
                room[info.model] += _shards_wanted(info)
        return room

    def _open_jobs(self) -> list[_Facts]:
        job_ids = self._table.open_jobs()
        self._facts = {job_id: self._facts[job_id] for job_id in job_ids if job_id in self._facts}
        for job_id in job_ids:
            known = self._facts.get(job_id)
            if known is None or time.monotonic() - known.read_at_s > _FACTS_AGE_S:
                facts = self._read_facts(job_id, known)
                if facts is not None:
                    self._facts[job_id] = facts
        return [facts for facts in self._facts.values() if facts.is_open]

    def _read_facts(self, job_id: str, known: _Facts | None) -> _Facts | None:
        snapshot = self._table.snapshot(job_id)
        if snapshot is None:
            return None
        try:
            spec = known.spec if known else JobDir(self._app.settings.jobs_dir, job_id).read_spec()
        except (UnknownJob, CorruptJob) as error:
            logger.warning("%s cannot be fed: %s", job_id, error)
            return None
        num_rows = snapshot.counts.succeeded + snapshot.counts.failed
        num_tokens = snapshot.prompt_tokens + snapshot.completion_tokens
        per_row = num_tokens / num_rows if num_rows else _COST_UNKNOWN
        candidate = Candidate(
            job_id=job_id,
            tenant=spec.tenant,
            priority=spec.priority,
            cost=max(per_row, 1.0) * spec.shard_rows,
        )
        return _Facts(spec, snapshot.state.is_open, candidate, time.monotonic())

    @property
    def _redis(self) -> Any:
        return self._table.redis


def _shards_wanted(info: WorkerInfo) -> int:
    return max(LEAST_SHARDS, -(-info.slots * ROWS_PER_SLOT // 64))
