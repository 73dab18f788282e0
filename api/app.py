"""The HTTP application: opens what the routes work with, and lets requests through to them.

Knows no engine and never loads torch: `uvicorn --factory penstock.api.app:create_app`.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

import redis
import redis.asyncio
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from .. import __version__
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
from ..jobs.workflow.tools import read_operations
from .auth import KeyCheck
from .background_responses import BackgroundResponses
from .bodies import refusal_of_fields
from .catalog import Catalog
from .docs_page import docs_route
from .errors import NotFound, OtherStatus, shown
from .job_object import RateGauge
from .limits import RequestLimits
from .long_poll import LongPolls
from .meters import Meters
from .open_files import OpenFiles
from .openapi import describe, operation_name
from .rate_limit import RateGates, RateLimit
from .refusals import TRANSLATED, refusal_for
from .request_context import RequestContext
from .response_book import ResponseBook
from .routes import (
    batches,
    chat,
    completions,
    embeddings,
    files,
    health,
    job_results,
    job_steering,
    job_views,
    jobs,
    keys,
    metrics,
    models,
    queues,
    responses,
    run_steering,
    run_views,
    uploads,
    usage,
    validation,
    webhook_endpoints,
    whoami,
    workers,
    workflow_runs,
    workflow_trials,
    workflows,
)
from .same_site import SameSiteCheck
from .services import Services
from .stream_slots import StreamSlots
from .validation_slots import ValidationSlots
from .waiting_line import WaitingLine
from .web_pages import page_routes

MAX_SUBMISSIONS = 4  # sealed at the same time; more wait
_REDIS_TIMEOUT_S = 1.5  # a frozen Redis is told within two seconds
_REBUILD_RETRY_S = 1.0
_SWEEP_EVERY_S = 3600.0
_NOT_OFFERED = ("moderations", "images", "audio")  # OpenAI has them
_ROUTES = (
    jobs,
    job_results,
    job_steering,
    validation,
    job_views,
    chat,
    completions,
    responses,
    embeddings,
    files,
    uploads,
    batches,
    webhook_endpoints,
    models,
    keys,
    whoami,
    usage,
    queues,
    workers,
    run_steering,
    run_views,
    workflow_trials,
    workflow_runs,
    workflows,  # last: what others do not take is a workflow's name
    health,
    metrics,
)
_log = logging.getLogger("penstock.api")


def create_app(settings: Settings | None = None, *, host: str | None = None) -> FastAPI:
    """Build the application; without settings it reads them from the environment.

    `host` is the name under which it listens, if that is known.

    Raises:
        InvalidSetting: a setting cannot be used.
    """
    settings = settings or Settings.load()
    read_operations(settings.workflow_ops)
    meters = Meters()
    api_keys = ApiKeys(settings.keys_dir)
    tenants = Tenants(settings.tenants_dir)
    gates = RateGates(tenants)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            app.state.services = await _open_services(
                settings, meters, api_keys, tenants, gates, stack
            )
            yield

    middleware = [
        Middleware(RequestContext, meters=meters),
        Middleware(RequestLimits, body_idle_s=settings.body_timeout_s),
        Middleware(KeyCheck, api_key=settings.api_key, keys=api_keys),
        Middleware(SameSiteCheck, own_hosts=(host, urlsplit(settings.url).hostname)),
        Middleware(RateLimit, gates=gates),
    ]
    app = FastAPI(
        title="Penstock",
        version=__version__,
        summary="Bulk LLM generation as a queue, and OpenAI's API beside it.",
        lifespan=lifespan,
        middleware=middleware,
        docs_url=None,  # FastAPI's page loads its scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=operation_name,
    )
    for module in _ROUTES:
        app.include_router(module.router)
    app.router.routes.extend([*page_routes(), docs_route(app)])
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    app.add_exception_handler(HTTPException, _refuse_status)
    for kind in TRANSLATED:
        app.add_exception_handler(kind, _refuse)
    describe(app)
    return app


async def _open_services(
    settings: Settings,
    meters: Meters,
    api_keys: ApiKeys,
    tenants: Tenants,
    gates: RateGates,
    stack: AsyncExitStack,
) -> Services:
    """Open everything, each thing closed again by the stack. Redis may still be away."""
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
        timelines=Timelines(),
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


async def _refuse(request: Request, error: Exception) -> Response:
    refusal = refusal_for(error)
    if refusal.status >= 500 and refusal is not error:  # it came from below
        _log.warning("%s %s: %s", request.method, request.url.path, error)
    return refusal.response()


async def _refuse_fields(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal_of_fields(error.errors()).response()


async def _refuse_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        path = shown(request.url.path)
        if request.url.path.startswith(tuple(f"/v1/{name}" for name in _NOT_OFFERED)):
            return NotFound(f"{request.method} {path} is not offered yet").response()
        return NotFound(f"there is nothing at {request.method} {path}").response()
    return OtherStatus(error.status_code, error.detail, dict(error.headers or {})).response()
