"""The HTTP application: its routes, and what a request passes on its way to them and back.

What the routes work with: see `opening`. Knows no engine and never loads torch:
`uvicorn --factory penstock.api.app:create_app`.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from .. import __version__
from ..jobs.api_keys import ApiKeys
from ..jobs.settings import Settings
from ..jobs.tenants import Tenants
from ..jobs.workflow.tools import read_operations
from .auth import KeyCheck
from .bodies import refusal_of_fields
from .docs_page import docs_route
from .errors import NotFound, OtherStatus, shown
from .limits import RequestLimits
from .meters import Meters
from .openapi import describe, operation_name
from .opening import open_services
from .rate_limit import RateGates, RateLimit
from .refusals import TRANSLATED, refusal_for
from .request_context import RequestContext
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
    overview,
    queues,
    responses,
    run_results,
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
from .web_pages import page_routes

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
    overview,
    workflow_runs,
    run_results,
    run_steering,
    run_views,
    workflow_trials,
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
            app.state.services = await open_services(
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
