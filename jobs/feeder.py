"""Keeps a small window of shards in the Celery queues: enough for the workers, and no more.

A short queue is what makes priorities, fair shares, pause and cancel act at once, whatever was
submitted before: a job that becomes urgent waits for that window at most, and what is queued of
one that pauses or is cancelled is turned away when a worker takes it. Only the leader among the
keepers feeds (see `keeper`). It hears of jobs that change, and does not ask the others: what a
tick costs depends on what is issued, not on how many jobs wait. A tenant is passed over while
enough of its work is under way (see `quotas`), and none of its jobs is above its ceiling.
"""

import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

import kombu.exceptions

from .app import PenstockApp
from .errors import CorruptJob, UnknownJob
from .fair_share import Candidate, FairShare
from .job_dir import JobDir
from .job_table import JobTable
from .messages import send_shards
from .model import JobSnapshot, JobSpec
from .quotas import Quotas, shard_load
from .stored_bytes import StoredBytes
from .tenants import Load, Tenants
from .workers import WorkerInfo, WorkerRegister
from .workflow.orders.order_names import depth_of, run_of

LEAST_SHARDS = 4  # waiting in the queue, per worker
ROWS_PER_SLOT = 2
_FACTS_AGE_S = 2.0
_LOST_AFTER_MS = 2_000  # a message that left an empty queue and claimed nothing is lost
_STALE_AFTER_MS = 30_000
_CHANGES_AT_A_TIME = 500
_JOBS_AT_A_TIME = 1_000  # looked at for lost messages
_HEAR_ALL_S = 30.0  # a clock set back, or a Redis rolled back, may have hidden a change
_SPECS_KEPT = 2_000

logger = logging.getLogger(__name__)


class Feeder:
    """Issues shards of open jobs to the queues of the models that live workers serve."""

    def __init__(self, app: PenstockApp, table: JobTable, register: WorkerRegister) -> None:
        self._stored = StoredBytes(app.settings, table)
        self._quotas = Quotas(Tenants(app.settings.tenants_dir), self._stored.known)
        self._app = app
        self._table = table
        self._register = register
        self._share = FairShare()
        self._specs: OrderedDict[str, JobSpec] = OrderedDict()
        self._read_at_s: dict[str, float] = {}  # when we last looked at a job in line
        self._heard_us = 0.0
        self._heard_all_at_s = time.monotonic()

    def feed(self) -> int:
        """Top up every queue; returns how many shards were issued."""
        room = self._room()
        if not room:
            return 0
        self._hear_changes()
        self._count_under_way()
        queued = self._table.agenda.queued()
        return sum(
            self._feed_model(model, target - queued.get(model, 0))
            for model, target in room.items()
            if target > queued.get(model, 0)
        )

    def reissue(self) -> int:
        """Hand back shards whose message was lost, as kombu loses about one per killed worker."""
        num_reissued = 0
        patience_ms: dict[str, int] = {}
        for model, job_id in self._waiting():
            if model not in patience_ms:
                is_empty = not self._redis.llen(self._app.lane("bulk", model).name)
                patience_ms[model] = _LOST_AFTER_MS if is_empty else _STALE_AFTER_MS
            lost = self._table.reissue_stale(job_id, patience_ms[model], limit=100)
            if lost:
                logger.info("%s: the messages of %d shards were lost", job_id, len(lost))
            num_reissued += len(lost)
        return num_reissued

    def measure_stored(self) -> None:
        """Look how much those store who may store only so much. It waits for disks."""
        for name in list(self._share.tenants):
            if self._quotas.tenant(name).max_stored_bytes is not None:
                self._stored.measure(name)

    def _waiting(self) -> list[tuple[str, str]]:
        """Name model and job where shards have been queued for some time."""
        job_ids = self._table.agenda.stale(_LOST_AFTER_MS, _JOBS_AT_A_TIME)
        snapshots = self._table.snapshots(job_ids)
        return [(each.model, each.job_id) for each in snapshots if each is not None]

    def _feed_model(self, model: str, wanted: int) -> int:
        num_issued = 0
        passed_over: list[Candidate] = []
        while num_issued < wanted:
            chosen = self._share.choose(model, barred=self._quotas.barred)
            if chosen is None:
                break
            spec = self._spec(chosen.job_id)
            if spec is None:
                self._forget(chosen.job_id)
                continue
            is_alone = len(self._share) == 1 and chosen.tenant not in self._quotas.limited
            limit = wanted - num_issued if is_alone else 1
            indexes = self._table.issue(chosen.job_id, limit)
            if indexes:
                self._share.charge(chosen, len(indexes))
                self._note_under_way(chosen, len(indexes))
                self._publish(spec, indexes)
                num_issued += len(indexes)
            if len(indexes) < limit:  # it has no more, or none within one look
                if self._table.agenda.is_hungry(chosen.job_id):
                    passed_over.append(chosen)
                self._forget(chosen.job_id)
            elif time.monotonic() - self._read_at_s[chosen.job_id] > _FACTS_AGE_S:
                self._look([chosen.job_id])
        for candidate in passed_over:
            self._look([candidate.job_id])
        return num_issued

    def _count_under_way(self) -> None:
        """Count what is queued and running of the tenants in line who have a quota, if any."""
        self._quotas.begin(self._share.tenants)
        if not self._quotas.limited:
            return
        shards = self._table.agenda.under_way()
        for snapshot in self._table.snapshots(list(shards)):
            if snapshot is not None:
                self._note_under_way(self._candidate(snapshot), shards[snapshot.job_id])

    def _note_under_way(self, candidate: Candidate, num_shards: int) -> None:
        load = Load(candidate.num_rows * num_shards, candidate.cost * num_shards)
        self._quotas.add(candidate.tenant, load)

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

    def _hear_changes(self) -> None:
        """Put those jobs in line that have shards to issue, and were not known to, or changed."""
        now_s = time.monotonic()
        if now_s - self._heard_all_at_s > _HEAR_ALL_S:
            self._heard_us, self._heard_all_at_s = 0.0, now_s
        changed = self._table.agenda.hungry(self._heard_us, _CHANGES_AT_A_TIME)
        is_news = [job_id for job_id, at_us in changed if at_us != self._heard_us]
        if changed:
            self._heard_us = changed[-1][1]
        self._look(is_news)

    def _look(self, job_ids: Sequence[str]) -> None:
        """Read how jobs stand, and put them in line or take them out."""
        for job_id, snapshot in zip(job_ids, self._table.snapshots(job_ids), strict=True):
            if snapshot is None or not snapshot.state.is_open:
                self._forget(job_id)
            else:
                self._share.offer(self._candidate(snapshot))
                self._read_at_s[job_id] = time.monotonic()

    def _forget(self, job_id: str) -> None:
        self._share.withdraw(job_id)
        self._read_at_s.pop(job_id, None)

    def _spec(self, job_id: str) -> JobSpec | None:
        """Read what messages say about a job; None if that cannot be read."""
        if job_id not in self._specs:
            try:
                self._specs[job_id] = JobDir(self._app.settings.jobs_dir, job_id).read_spec()
            except (UnknownJob, CorruptJob, OSError) as error:
                logger.warning("%s cannot be fed: %s", job_id, error)
                return None
        self._specs.move_to_end(job_id)
        if len(self._specs) > _SPECS_KEPT:
            self._specs.popitem(last=False)
        return self._specs[job_id]

    def _candidate(self, snapshot: JobSnapshot) -> Candidate:
        tenant = self._quotas.tenant(snapshot.tenant)
        load = shard_load(snapshot)
        return Candidate(
            job_id=snapshot.job_id,
            tenant=snapshot.tenant,
            priority=tenant.capped(snapshot.priority),
            cost=load.tokens,
            model=snapshot.model,
            weight=tenant.weight,
            num_rows=load.rows,
            group=run_of(snapshot.job_id) or "",
            depth=depth_of(snapshot.job_id),
        )

    @property
    def _redis(self) -> Any:
        return self._table.redis


def _shards_wanted(info: WorkerInfo) -> int:
    return max(LEAST_SHARDS, -(-info.slots * ROWS_PER_SLOT // 64))
