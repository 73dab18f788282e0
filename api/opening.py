"""Opens what the routes work with, in order, and sees to it that each thing is closed again.

Knows no route and no request. Redis may be away: what needs it waits, or says so when it is asked.
"""

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack, suppress

import redis
import redis.asyncio
from anyio import CapacityLimiter
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..jobs.api_keys import ApiKeys
from ..jobs.batch_clerk import BatchClerk
from ..jobs.batch_record import BatchRecords
from ..jobs.chat_usage import ChatUsage
from ..jobs.durable import StorageFull
from ..jobs.events import AsyncJobEvents
from ..jobs.file_store import FileStore
from ..jobs.installation import mark_installation
from ..jobs.interactive import InteractiveLane
from ..jobs.job_table import JobTable
from ..jobs.keeper import Keeper
from ..jobs.keys import Keys
from ..jobs.part_uploads import PartUploads
from ..jobs.quotas import QuotaWatch
from ..jobs.reconciler import rebuild_all
from ..jobs.redis_client import connect, connect_async
from ..jobs.settings import Settings
from ..jobs.stored_bytes import StoredBytes
from ..jobs.tenants import Tenants
from ..jobs.timeline import Timelines
from ..jobs.webhook_endpoints import WebhookEndpoints
from ..jobs.webhook_outbox import WebhookOutbox
from ..jobs.workers import AsyncWorkerRegister
from ..jobs.workflow.runs.part_ends import PartEnds
from .background_responses import BackgroundResponses
from .catalog import Catalog
from .job_object import RateGauge
from .long_poll import LongPolls
from .meters import Meters
from .open_files import OpenFiles
from .rate_limit import RateGates
from .response_book import ResponseBook
from .services import Services
from .shared_looks import SharedLooks
from .stream_slots import StreamSlots
from .validation_slots import ValidationSlots
from .waiting_line import WaitingLine

MAX_SUBMISSIONS = 4  # sealed at the same time; more wait
_REDIS_TIMEOUT_S = 1.5  # a frozen Redis is told within two seconds
_REBUILD_RETRY_S = 1.0
_SWEEP_EVERY_S = 3600.0
_log = logging.getLogger("penstock.api")


async def open_services(
    settings: Settings,
    meters: Meters,
    api_keys: ApiKeys,
    tenants: Tenants,
    gates: RateGates,
    stack: AsyncExitStack,
) -> Services:
    """Open everything, each thing closed again by the stack."""
    keys = Keys(settings.namespace)
    quick = connect(settings, socket_timeout_s=_REDIS_TIMEOUT_S)
    quick.set_retry(Retry(NoBackoff(), 0))  # the client of the API retries, and knows how often
    stack.callback(quick.close)
    quick_async = connect_async(settings, socket_timeout_s=_REDIS_TIMEOUT_S)
    quick_async.set_retry(AsyncRetry(NoBackoff(), 0))
    stack.push_async_callback(quick_async.aclose)
    patient = connect_async(settings)  # events block on the server for seconds
    stack.push_async_callback(patient.aclose)
    events = AsyncJobEvents(patient, keys)
    stack.push_async_callback(events.close)
    looks = SharedLooks()
    stack.push_async_callback(looks.close)
    lane = InteractiveLane(settings)
    await lane.open()
    stack.push_async_callback(lane.close)
    try:
        mark_installation(settings.data_dir)
    except (OSError, StorageFull) as error:  # jobs cannot be taken either, until that is mended
        _log.error("the data directory cannot be marked as the queue's: %s", error)
    keeper = Keeper(settings, owner=f"api-{os.getpid()}@{socket.gethostname()}")
    keeper.start()
    stack.push_async_callback(asyncio.to_thread, keeper.stop)
    rebuild = asyncio.create_task(_rebuild(settings))
    stack.push_async_callback(_cancel, rebuild)
    files = FileStore(settings.files_dir)
    uploads = PartUploads(settings.part_uploads_dir, files)
    table = JobTable(quick, keys)
    stored = StoredBytes(settings, table)
    sweep = asyncio.create_task(_sweep(files, uploads))
    stack.push_async_callback(_cancel, sweep)
    batches = BatchRecords(settings.data_dir / "batches")
    webhooks = settings.data_dir / "webhooks"
    endpoints = WebhookEndpoints(webhooks / "endpoints")
    outbox = WebhookOutbox(webhooks / "outbox", endpoints, settings.webhook_hosts)
    outbox.start()
    stack.push_async_callback(asyncio.to_thread, outbox.stop)
    chats = ChatUsage(settings.data_dir / "usage")
    chats.start()
    stack.push_async_callback(asyncio.to_thread, chats.stop)
    clerk = BatchClerk(settings, batches, files, outbox)
    clerk.start()
    stack.push_async_callback(asyncio.to_thread, clerk.stop)
    return Services(
        settings=settings,
        redis=quick_async,
        table=table,
        events=events,
        batches=batches,
        files=files,
        uploads=uploads,
        endpoints=endpoints,
        outbox=outbox,
        keys=api_keys,
        tenants=tenants,
        stored=stored,
        quotas=QuotaWatch(table, tenants, stored),
        chats=chats,
        lane=lane,
        line=WaitingLine(settings.max_waiting_chats),
        catalog=Catalog(settings.models, AsyncWorkerRegister(quick_async, keys)),
        meters=meters,
        rates=RateGauge(),
        responses=ResponseBook(),
        background=BackgroundResponses(settings, table),
        gates=gates,
        streams=StreamSlots(tenants),
        polls=LongPolls(),
        looks=looks,
        timelines=Timelines(),
        part_ends=PartEnds(),
        keeper=keeper,
        submissions=CapacityLimiter(MAX_SUBMISSIONS),
        validations=ValidationSlots(),
        followers=CapacityLimiter(OpenFiles.of_process().followers),
    )


async def _rebuild(settings: Settings) -> None:
    """Bring the job table up to what the disk knows; as long as Redis is away, try again."""
    with connect(settings) as client:
        table = JobTable(client, Keys(settings.namespace))
        while True:
            try:
                rebuilt = await asyncio.to_thread(rebuild_all, settings, table)
            except (redis.RedisError, OSError) as error:
                _log.warning("the job table cannot be rebuilt yet: %s", error)
                await asyncio.sleep(_REBUILD_RETRY_S)
            else:
                if rebuilt:
                    _log.info("rebuilt %d jobs from disk", len(rebuilt))
                return


async def _sweep(files: FileStore, uploads: PartUploads) -> None:
    """Remove what has had its time, now and every hour."""
    while True:
        try:
            await asyncio.to_thread(uploads.sweep)
            await asyncio.to_thread(files.sweep)
        except OSError as error:
            _log.warning("files whose time is over cannot be removed yet: %s", error)
        await asyncio.sleep(_SWEEP_EVERY_S)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
