"""What is true at the moment of a scrape, as Prometheus wants it. Knows names and labels, no Redis.

Every process of the API tells the same of the queue, the workers and Redis, which they share: to
add up over processes is wrong here, to take the largest is right.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .. import __version__
from ..jobs.model import JobSnapshot, JobState
from ..jobs.workers import PROOF_MAX_AGE_MS, WorkerInfo
from .meters import MAX_NAMES, OTHER


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of the data directory: what there is, and what of it this user may take."""

    size_bytes: int
    free_bytes: int
    num_inodes: int  # 0 where the file system does not count them
    num_free_inodes: int


@dataclass(frozen=True, slots=True)
class Queue:
    """The open jobs: how many in which state, and what they hold."""

    states: Counter[JobState]
    held_up: int  # jobs of which something says that they cannot go on
    rows: Counter[str]  # of every tenant, not yet started
    backlog: Counter[str]  # rows of every model that a worker has, or could have now
    shards: dict[str, int]  # of every model, issued and not claimed

    @classmethod
    def of(cls, jobs: Iterable[JobSnapshot], shards: dict[str, int]) -> "Queue":
        """Add up what open jobs hold."""
        states: Counter[JobState] = Counter()
        rows: Counter[str] = Counter()
        backlog: Counter[str] = Counter()
        held_up = 0
        for job in jobs:
            states[job.state] += 1
            rows[job.tenant] += job.counts.pending
            backlog[job.model] += job.counts.running
            backlog[job.model] += job.counts.pending if job.state.is_open else 0
            held_up += job.error is not None
        return cls(states, held_up, largest(rows), largest(backlog), shards)


@dataclass(frozen=True, slots=True)
class Moment:
    """All that one scrape has found out; `queue` is None when Redis does not answer."""

    now_ms: float
    workers: list[WorkerInfo]
    queue: Queue | None
    requests: dict[str, int]  # of every model, not yet taken by a worker
    redis: Mapping[str, Any]  # what INFO says
    redis_ping_s: float
    is_kept: bool  # whether some process leads as the queue's keeper
    disk: Disk | None
    num_reaped: int  # by this process, while it led


def largest(values: Counter[str]) -> Counter[str]:
    """Keep the largest values under their names, and the sum of all others under one."""
    kept = Counter(dict(values.most_common(MAX_NAMES)))
    if len(values) > MAX_NAMES:
        kept[OTHER] += values.total() - kept.total()
    return kept


class LiveMetrics:
    """A collector of one moment."""

    def __init__(self, moment: Moment) -> None:
        self._now = moment

    def collect(self) -> Iterator[Metric]:
        """Tell everything that is known."""
        build = GaugeMetricFamily(
            "penstock_build_info", "Which version serves.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build
        if self._now.disk is not None:
            yield from _disk(self._now.disk)
        is_up = self._now.queue is not None
        yield _gauge("penstock_redis_up", "Whether Redis answers.", float(is_up))
        yield _gauge("penstock_workers", "Live workers.", len(self._now.workers))
        if self._now.queue is not None:
            yield from self._redis()
            yield from self._queue(self._now.queue)
        yield from self._workers()

    def _redis(self) -> Iterator[Metric]:
        ping_s = self._now.redis_ping_s
        yield _gauge("penstock_redis_ping_seconds", "How long Redis took to answer.", ping_s)
        for name, text, field in _REDIS_GAUGES:
            yield _gauge(name, text, float(self._now.redis.get(field, 0)))
        for name, text, field in _REDIS_COUNTERS:
            yield CounterMetricFamily(name, text, value=float(self._now.redis.get(field, 0)))
        is_durable = self._now.redis.get("aof_enabled") == 1
        is_written = self._now.redis.get("aof_last_write_status") == "ok"
        yield _gauge(
            "penstock_redis_aof_ok",
            "Whether Redis keeps an append-only file and can write to it.",
            float(is_durable and is_written),
        )

    def _queue(self, queue: Queue) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("penstock_jobs", "Jobs that have not ended.", labels=["state"])
        for state in JobState:
            if not state.is_final:
                jobs.add_metric([state.value], queue.states[state])
        yield jobs
        yield _gauge("penstock_jobs_held_up", "Of them, those in trouble.", queue.held_up)
        yield _gauge("penstock_keeper_up", "Whether the queue has a keeper.", self._now.is_kept)
        yield _labelled(
            "penstock_queue_rows", "Rows of open jobs not yet started.", "tenant", queue.rows
        )
        served = {worker.model: 0 for worker in self._now.workers}
        configured = dict.fromkeys(self._now.requests, 0)
        yield _labelled(
            "penstock_backlog_rows",
            "Rows of jobs that are with a worker or could be: not of jobs that pause.",
            "model",
            {**configured, **served, **queue.backlog},
        )
        depth = GaugeMetricFamily(
            "penstock_queue_depth",
            "What no worker has taken yet: shards in the bulk lane, requests in the interactive.",
            labels=["lane", "model"],
        )
        for lane, waiting in (("bulk", queue.shards), ("interactive", self._now.requests)):
            for model, number in waiting.items():
                depth.add_metric([lane, model], number)
        yield depth

    def _workers(self) -> Iterator[Metric]:
        for name, text, field in _WORKER_GAUGES:
            family = GaugeMetricFamily(name, text, labels=["worker", "model"])
            for worker in self._now.workers:
                family.add_metric([worker.name, worker.model], getattr(worker, field))
            yield family
        ready = GaugeMetricFamily(
            "penstock_worker_ready",
            "Whether a row came through the worker's engine lately.",
            labels=["worker", "model"],
        )
        for worker in self._now.workers:
            is_ready = self._now.now_ms - worker.proved_at_ms < PROOF_MAX_AGE_MS
            ready.add_metric([worker.name, worker.model], is_ready)
        yield ready
        for name, text, field in _WORKER_COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["worker", "model"])
            for worker in self._now.workers:
                counter.add_metric([worker.name, worker.model], getattr(worker.totals, field))
            if field == "lease_expiries":  # this process may lead, too
                counter.add_metric(["api", ""], self._now.num_reaped)
            yield counter
        rows = CounterMetricFamily(
            "penstock_rows_landed",
            "Rows of jobs that landed, by their error's code; empty for those that succeeded.",
            labels=["worker", "model", "code"],
        )
        for worker in self._now.workers:
            for code, number in {"": 0, **worker.totals.rows}.items():
                rows.add_metric([worker.name, worker.model, code], number)
        yield rows


_REDIS_GAUGES = (
    ("penstock_redis_used_memory_bytes", "Memory that Redis uses.", "used_memory"),
    ("penstock_redis_max_memory_bytes", "Memory it may use; 0: no limit.", "maxmemory"),
    ("penstock_redis_connected_clients", "Connections to Redis.", "connected_clients"),
)

_REDIS_COUNTERS = (
    ("penstock_redis_commands", "Commands that Redis has run.", "total_commands_processed"),
    ("penstock_redis_evicted_keys", "Keys that Redis dropped for room.", "evicted_keys"),
)

_WORKER_GAUGES = (
    ("penstock_num_requests_running", "Rows in the running batch.", "running_rows"),
    ("penstock_num_requests_waiting", "Rows waiting for a slot.", "waiting_rows"),
    ("penstock_tokens_per_second", "Tokens generated per second, lately.", "tokens_per_s"),
    ("penstock_kv_cache_usage_perc", "Used fraction of the KV cache, 0 to 1.", "kv_used_fraction"),
)

_WORKER_COUNTERS = (
    ("penstock_engine_generation_tokens", "Tokens generated, of jobs too.", "generated_tokens"),
    ("penstock_prefix_cache_queries", "Prompt tokens looked for in the cache.", "prompt_tokens"),
    ("penstock_prefix_cache_hits", "Prompt tokens that the cache held.", "cached_tokens"),
    ("penstock_num_preemptions", "Rows sent back to wait for room.", "preemptions"),
    ("penstock_shard_retries", "Shards that were claimed once more.", "shard_retries"),
    ("penstock_lease_expiries", "Shards taken back from silent workers.", "lease_expiries"),
    ("penstock_engine_losses", "Engines that died or stood still.", "engine_losses"),
)


def _disk(disk: Disk) -> Iterator[Metric]:
    yield _gauge("penstock_data_size_bytes", "Size of the data's file system.", disk.size_bytes)
    yield _gauge("penstock_data_free_bytes", "Room left on it.", disk.free_bytes)
    yield _gauge("penstock_data_inodes", "Files it can hold; 0: any number.", disk.num_inodes)
    yield _gauge("penstock_data_free_inodes", "Files it can still take.", disk.num_free_inodes)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
