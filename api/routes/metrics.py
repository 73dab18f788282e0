"""GET /metrics, for Prometheus: what the server counted, and what queue and workers say now."""

import os
import time
from pathlib import Path

import anyio.to_thread
import redis
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import Response

from ...jobs.job_table import JobTable
from ..live_metrics import Disk, LiveMetrics, Moment, Queue
from ..services import Services, TheServices

MAX_OPEN_JOBS = 500  # looked at one by one

router = APIRouter(tags=["health"])


@router.get("/metrics")
async def metrics(services: TheServices) -> Response:
    """Return all measurements as text; without Redis, only the server's own."""
    moment = await _look_around(services)
    body = generate_latest(services.meters.registry)
    live = CollectorRegistry()
    live.register(LiveMetrics(moment))
    return Response(body + generate_latest(live), media_type=CONTENT_TYPE_LATEST)


async def _look_around(services: Services) -> Moment:
    disk = await anyio.to_thread.run_sync(disk_of, services.settings.data_dir)
    num_reaped, now_ms = services.keeper.num_reaped, time.time() * 1000
    try:
        started_s = time.perf_counter()
        info = await services.redis.info()
        ping_s = time.perf_counter() - started_s
        return Moment(
            now_ms=now_ms,
            workers=await services.catalog.workers(),
            queue=await anyio.to_thread.run_sync(_look_at_jobs, services.table),
            requests=await _waiting_requests(services),
            redis=info,
            redis_ping_s=ping_s,
            is_kept=bool(await services.redis.exists(services.table.keys.leader("keeper"))),
            disk=disk,
            num_reaped=num_reaped,
        )
    except redis.RedisError:
        return Moment(now_ms, [], None, {}, {}, 0.0, False, disk, num_reaped)


def disk_of(directory: Path) -> Disk | None:
    """Look at the file system of a directory; None if that cannot be looked at."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return Disk(
        size_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        num_inodes=found.f_files,
        num_free_inodes=found.f_favail,
    )


def _look_at_jobs(table: JobTable) -> Queue:
    job_ids = table.open_jobs()[:MAX_OPEN_JOBS]
    jobs = [job for job in table.snapshots(job_ids) if job is not None]
    return Queue.of(jobs, table.agenda.queued())


async def _waiting_requests(services: Services) -> dict[str, int]:
    """Count the requests that no worker has taken yet, by model."""
    models = list(await services.catalog.served())
    keys = services.table.keys
    async with services.redis.pipeline(transaction=False) as pipeline:
        for model in models:
            pipeline.llen(keys.queue("interactive", model))
        return dict(zip(models, await pipeline.execute(), strict=True))
