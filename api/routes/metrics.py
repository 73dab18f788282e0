"""GET /metrics, for Prometheus: what the server counted, and what queue and workers say now."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import anyio.to_thread
import redis
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.responses import Response

from ...jobs.job_table import JobTable
from ...jobs.model import JobState
from ...jobs.workers import WorkerInfo
from ..meters import MAX_NAMES, OTHER
from ..services import Services, TheServices

MAX_OPEN_JOBS = 500  # looked at one by one

router = APIRouter(tags=["health"])


@router.get("/metrics")
async def metrics(services: TheServices) -> Response:
    """Return all measurements as text; without Redis, only the server's own."""
    try:
        workers = await services.catalog.workers()
        queue = await anyio.to_thread.run_sync(_look_at_jobs, services.table)
        requests = await _waiting_requests(services)
    except redis.RedisError:
        workers, queue, requests = [], None, {}
    body = generate_latest(services.meters.registry)
    live = CollectorRegistry()
    live.register(_Live(workers, queue, requests, services.keeper.num_reaped))
    return Response(body + generate_latest(live), media_type=CONTENT_TYPE_LATEST)


@dataclass(frozen=True, slots=True)
class _Jobs:
    """The open jobs: how many in which state, and what they hold."""

    states: Counter[JobState]
    rows: Counter[str]  # of every tenant, not yet started
    shards: dict[str, int]  # of every model, issued and not claimed


def _look_at_jobs(table: JobTable) -> _Jobs:
    job_ids = table.open_jobs()[:MAX_OPEN_JOBS]
    snapshots = [job for job in table.snapshots(job_ids) if job is not None]
    rows: Counter[str] = Counter()
    for job in snapshots:
        rows[job.tenant] += job.counts.pending
    states = Counter(job.state for job in snapshots)
    return _Jobs(states, _largest(rows), table.agenda.queued())


async def _waiting_requests(services: Services) -> dict[str, int]:
    """Count the requests that no worker has taken yet, by model."""
    models = list(await services.catalog.served())
    keys = services.table.keys
    async with services.redis.pipeline(transaction=False) as pipeline:
        for model in models:
            pipeline.llen(keys.queue("interactive", model))
        return dict(zip(models, await pipeline.execute(), strict=True))


def _largest(values: Counter[str]) -> Counter[str]:
    """Keep the largest values under their names, and the sum of all others under one."""
    kept = Counter(dict(values.most_common(MAX_NAMES)))
    if len(values) > MAX_NAMES:
        kept[OTHER] += values.total() - kept.total()
    return kept


class _Live:
    """What is true at the moment of the scrape, as Prometheus wants it."""

    def __init__(
        self,
        workers: list[WorkerInfo],
        jobs: _Jobs | None,
        requests: dict[str, int],
        num_reaped: int,
    ) -> None:
        self._workers = workers
        self._jobs = jobs
        self._requests = requests
        self._num_reaped = num_reaped

    def collect(self) -> Iterator[Metric]:
        yield _gauge("penstock_redis_up", "Whether Redis answers.", float(self._jobs is not None))
        yield _gauge("penstock_workers", "Live workers.", len(self._workers))
        for name, text, field in _WORKER_GAUGES:
            family = GaugeMetricFamily(name, text, labels=["worker", "model"])
            for worker in self._workers:
                family.add_metric([worker.name, worker.model], getattr(worker, field))
            yield family
        for name, text, field in _WORKER_COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["worker", "model"])
            for worker in self._workers:
                counter.add_metric([worker.name, worker.model], getattr(worker.totals, field))
            if field == "lease_expiries":  # this process may lead, too
                counter.add_metric(["api", ""], self._num_reaped)
            yield counter
        if self._jobs is not None:
            yield from self._queue(self._jobs)

    def _queue(self, now: _Jobs) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("penstock_jobs", "Jobs that have not ended.", labels=["state"])
        for state in JobState:
            if not state.is_final:
                jobs.add_metric([state.value], now.states[state])
        yield jobs
        rows = GaugeMetricFamily(
            "penstock_queue_rows", "Rows of open jobs not yet started.", labels=["tenant"]
        )
        for tenant, num_rows in now.rows.items():
            rows.add_metric([tenant], num_rows)
        yield rows
        depth = GaugeMetricFamily(
            "penstock_queue_depth",
            "What no worker has taken yet: shards in the bulk lane, requests in the interactive.",
            labels=["lane", "model"],
        )
        for lane, waiting in (("bulk", now.shards), ("interactive", self._requests)):
            for model, number in waiting.items():
                depth.add_metric([lane, model], number)
        yield depth


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
)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
