"""GET /v1/overview/events: what is there and how it goes, as it changes, for many who look on."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ...jobs.api_keys import Scope
from ...jobs.model import JobState
from ..event_feed import RETRY_FRAME, stream_to_follower
from ..long_poll import shutdown_of
from ..principal import ThePrincipal
from ..refusals import refusal_for
from ..services import Services, TheServices
from ..shared_looks import Look, View
from ..sse import frame
from .jobs import LONGEST_LIST, list_jobs
from .queues import list_queues
from .workers import list_workers
from .workflow_runs import get_runs

LONGEST_S = 600.0  # whoever comes again shows its key again

router = APIRouter(tags=["jobs"])


@router.get("/v1/overview/events")
async def follow_overview(
    request: Request,
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[
        int, Query(ge=1, le=LONGEST_LIST, description="How many jobs and runs a page has.")
    ] = 20,
    jobs_after: Annotated[
        str | None, Query(description="`last_id` of the page of jobs before.")
    ] = None,
    jobs_status: Annotated[
        list[JobState] | None, Query(description="Only jobs in this state; may be given again.")
    ] = None,
    runs_after: Annotated[
        str | None, Query(description="`last_id` of the page of runs before.")
    ] = None,
    runs_status: Annotated[
        list[JobState] | None, Query(description="Only runs in this state; may be given again.")
    ] = None,
) -> Response:
    """Stream a page of jobs and one of runs, and to admins workers and queues, as they change.

    An event is named after what it carries: `jobs`, `runs`, `workers` or `queues`, as the list of
    that name. `refused` says which of them cannot be read, and why. All who look at the same share
    one look at it. After ten minutes the stream ends; open it again to go on.
    """
    shown = services, principal
    job_page = "jobs", limit, jobs_after, frozenset(jobs_status or ())
    run_page = "runs", limit, runs_after, frozenset(runs_status or ())
    looks: dict[View, Look] = {
        View(job_page, owner=principal.tenant): _look(
            "jobs",
            partial(list_jobs, *shown, limit=limit, after=jobs_after, status=jobs_status),
        ),
        View(run_page, owner=principal.tenant): _look(
            "runs",
            partial(get_runs, *shown, limit=limit, after=runs_after, status=runs_status),
        ),
    }
    if principal.may(Scope.ADMIN):
        looks[View("workers")] = _look("workers", partial(list_workers, services))
        looks[View("queues")] = _look("queues", partial(list_queues, services))
    services.looks.check_room(looks)
    is_leaving, end_s = shutdown_of(request.scope), time.monotonic() + LONGEST_S

    def is_over() -> bool:
        return is_leaving() or time.monotonic() >= end_s

    return await stream_to_follower(request, services, _frames(services, looks, is_over))


def _look(name: str, read: Callable[[], Awaitable[dict[str, Any]]]) -> Look:
    """Read a list as an event of that name; what goes wrong is told in its place."""

    async def look() -> bytes:
        try:
            return frame(await read(), event=name)
        except Exception as error:
            refusal = refusal_for(error)
            told = {"of": name, "status": refusal.status, **refusal.envelope()}
            return frame(told, event="refused")

    return look


async def _frames(
    services: Services, looks: dict[View, Look], is_over: Callable[[], bool]
) -> AsyncGenerator[bytes, None]:
    yield RETRY_FRAME
    try:
        async with aclosing(services.looks.follow(looks, is_over)) as frames:
            async for each in frames:
                yield each
    except Exception as error:
        yield frame(refusal_for(error).envelope(), event="error")
