"""/v1/workflows/runs/{id}: change a run, run again what failed of it, and list what went wrong."""

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from ...jobs.errors import InvalidJob
from ...jobs.workflow.runs.retrying import retry_run
from ...jobs.workflow.runs.run_control import RunChanges, change_run
from ...jobs.workflow.runs.run_errors import read_errors
from ..bodies import json_body, read_json, read_optional_json
from ..creations import ADMITTED
from ..errors import Conflict
from ..home import require_home
from ..idempotency_key import idempotency_key_of
from ..job_wish import priority_for
from ..principal import Principal, ThePrincipal
from ..services import Services, TheServices
from ..workflow_object import run_object
from ..workflow_requests import told
from ..workflow_schemas import RunChange, RunRetry
from .job_results import MAX_PAGE_ROWS, PAGE_ROWS
from .workflow_runs import find_run

MAX_BODY_BYTES = 64 << 10

router = APIRouter(tags=["workflows"])


@router.patch("/v1/workflows/runs/{run_id}", openapi_extra=json_body(RunChange))
async def update_run(
    run_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Change a run's name, metadata or priority, at once: also that of what it asks just now.

    What is not named stays as it is; null takes a name away.
    """
    body = await read_json(request, RunChange, MAX_BODY_BYTES)
    await find_run(services, principal, run_id)
    changes = _changes(services, principal, body)
    work = partial(change_run, services.settings, services.table, run_id, **changes)
    with told(run_id):
        await anyio.to_thread.run_sync(work)
    return run_object(await find_run(services, principal, run_id))


@router.post(
    "/v1/workflows/runs/{run_id}/retry",
    status_code=202,
    openapi_extra=json_body(RunRetry, is_required=False),
    dependencies=[ADMITTED],
)
async def run_again(
    run_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> JSONResponse:
    """Run again what failed of a run that has ended, as a run of its own, of the same rows.

    It takes over all that succeeded, and lands a whole output: what had failed, and its neighbours.
    While one retry goes on, the next request finds it; one with the same `Idempotency-Key` finds it
    ever after.
    """
    body = await read_optional_json(request, RunRetry, MAX_BODY_BYTES)
    require_home(services)
    await find_run(services, principal, run_id)
    work = partial(
        retry_run,
        services.settings,
        services.table,
        run_id,
        name=body.name,
        priority=_priority(services, principal, body.priority),
        served=frozenset(await services.catalog.served()),
        idempotency_key=idempotency_key_of(request, None),
    )
    try:
        with told(run_id):
            run = await anyio.to_thread.run_sync(work, limiter=services.submissions)
    except InvalidJob as error:
        raise Conflict(str(error), param=error.param) from error
    return JSONResponse(
        run_object(run), status_code=202, headers={"location": f"/v1/workflows/runs/{run.run_id}"}
    )


@router.get("/v1/workflows/runs/{run_id}/errors")
async def get_run_errors(
    run_id: str,
    services: TheServices,
    principal: ThePrincipal,
    step: Annotated[str | None, Query(description="Only what failed in this step.")] = None,
    code: Annotated[str | None, Query(description="Only errors of this code.")] = None,
    after: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE_ROWS, description="How many errors a page has.")
    ] = PAGE_ROWS,
) -> dict[str, Any]:
    """Return the lines that could not become rows, then the rows that failed, step by step.

    One page: `next_cursor` is where the next one begins. A page looks at so much and no more: it
    may be empty and yet have a next one. `outcome` says what became of a row: `kept` without a
    value, `defaulted`, `dropped`, or `fatal` to the run.
    """
    await find_run(services, principal, run_id)
    work = partial(
        read_errors, services.settings, run_id, step=step, code=code, after=after, limit=limit
    )
    with told(run_id):
        page = await anyio.to_thread.run_sync(work)
    errors = [asdict(error).items() for error in page.errors]
    return {
        "object": "list",
        "data": [{name: value for name, value in each if value is not None} for each in errors],
        "has_more": page.next_cursor is not None,
        "next_cursor": page.next_cursor,
    }


def _changes(services: Services, principal: Principal, body: RunChange) -> RunChanges:
    """Keep what was named; pydantic fills in the rest."""
    changes = RunChanges()
    named = body.model_fields_set
    if "name" in named:
        changes["name"] = body.name
    if "metadata" in named:
        changes["metadata"] = body.metadata or {}
    if "priority" in named:
        changes["priority"] = priority_for(services, principal, body.priority)
    return changes


def _priority(services: Services, principal: Principal, wanted: int | None) -> int | None:
    return None if wanted is None else priority_for(services, principal, wanted)
