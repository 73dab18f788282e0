"""GET /metrics, for Prometheus: what the server counted, and what queue and workers say now."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import anyio.to_thread
import redis
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.responses import Response

from ...jobs.job_table import JobTable
from ...jobs.model import JobState
from ...jobs.workers import WorkerInfo
from ..services import TheServices

MAX_OPEN_JOBS = 500  # looked at one by one

router = APIRouter(tags=["health"])


@router.get("/metrics")
async def metrics(services: TheServices) -> Response:
    """Return all measurements as text; without Redis, only the server's own."""
    try:
        workers = await services.catalog.workers()
        queue = await anyio.to_thread.run_sync(_look_at_queue, services.table)
    except redis.RedisError:
        workers, queue = [], None
    body = generate_latest(services.meters.registry)
    live = CollectorRegistry()
    live.register(_Live(workers, queue))
    return Response(body + generate_latest(live), media_type=CONTENT_TYPE_LATEST)


@dataclass(frozen=True, slots=True)
class _Queue:
    """The open jobs: how many in which state, and what they hold."""

    jobs: Counter[JobState]
    waiting_rows: int
    queued_shards: int


def _look_at_queue(table: JobTable) -> _Queue:
    job_ids = table.open_jobs()[:MAX_OPEN_JOBS]
    snapshots = [job for job in table.snapshots(job_ids) if job is not None]
    return _Queue(
        jobs=Counter(job.state for job in snapshots),
        waiting_rows=sum(job.counts.pending for job in snapshots),
        queued_shards=sum(table.agenda.queued().values()),
    )


class _Live:
    """What is true at the moment of the scrape, as Prometheus wants it."""

    def __init__(self, workers: list[WorkerInfo], queue: _Queue | None) -> None:
        self._workers = workers
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        yield _gauge("penstock_redis_up", "Whether Redis answers.", float(self._queue is not None))
        yield _gauge("penstock_workers", "Live workers.", len(self._workers))
        for name, text, field in _WORKER_GAUGES:
            family = GaugeMetricFamily(name, text, labels=["worker", "model"])
            for worker in self._workers:
                family.add_metric([worker.name, worker.model], getattr(worker, field))
            yield family
        if self._queue is None:
            return
        jobs = GaugeMetricFamily("penstock_jobs", "Jobs that have not ended.", labels=["state"])
        for state in JobState:
            if not state.is_final:
                jobs.add_metric([state.value], self._queue.jobs[state])
        yield jobs
        yield _gauge(
            "penstock_queue_rows", "Rows of open jobs not yet started.", self._queue.waiting_rows
        )
        yield _gauge(
            "penstock_queue_shards", "Shards issued and not claimed.", self._queue.queued_shards
        )


_WORKER_GAUGES = (
    ("penstock_num_requests_running", "Rows in the running batch.", "running_rows"),
    ("penstock_num_requests_waiting", "Rows waiting for a slot.", "waiting_rows"),
    ("penstock_tokens_per_second", "Tokens generated per second, lately.", "tokens_per_s"),
    ("penstock_kv_cache_usage", "Used fraction of the KV cache.", "kv_used_fraction"),
)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
