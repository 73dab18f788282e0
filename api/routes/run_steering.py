"""/v1/workflows/runs/{id}, as it is steered: paused, resumed, changed, what failed run again."""

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ...jobs.errors import InvalidJob
from ...jobs.workflow.runs.retrying import retry_run
from ...jobs.workflow.runs.run_control import change_run
from ...jobs.workflow.runs.runs import RunSnapshot, pause_run, resume_run
from ..bodies import MAX_CHANGE_BYTES, json_body, read_json, read_optional_json
from ..creations import ADMITTED
from ..errors import Conflict
from ..home import require_home
from ..idempotency_key import idempotency_key_of
from ..job_wish import priority_for
from ..named_changes import named_changes
from ..principal import Principal, ThePrincipal
from ..run_lookup import find_run
from ..services import Services, TheServices
from ..workflow_object import run_object
from ..workflow_requests import told
from ..workflow_schemas import RunChange, RunRetry

router = APIRouter(tags=["workflows"])


@router.post("/v1/workflows/runs/{run_id}/pause")
async def pause(run_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Begin nothing more of a run; what is running goes on to its end, and is kept."""
    run = await find_run(services, principal, run_id)
    if run.state.is_final:
        raise Conflict(f"{run_id} has ended ({run.state}): there is nothing to pause")
    return await _steer(services, pause_run, run_id)


@router.post("/v1/workflows/runs/{run_id}/resume")
async def resume(run_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Let a run go on that pauses; any other is left as it is."""
    run = await find_run(services, principal, run_id)
    return run_object(run) if run.state.is_final else await _steer(services, resume_run, run_id)


@router.patch("/v1/workflows/runs/{run_id}", openapi_extra=json_body(RunChange))
async def update_run(
    run_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Change a run's name, metadata or priority, at once: also that of what it asks just now.

    What is not named stays as it is; null takes a name away.
    """
    body = await read_json(request, RunChange, MAX_CHANGE_BYTES)
    await find_run(services, principal, run_id)
    changes = named_changes(services, principal, body)
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
    body = await read_optional_json(request, RunRetry, MAX_CHANGE_BYTES)
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


async def _steer(
    services: Services, verb: Callable[..., RunSnapshot], run_id: str
) -> dict[str, Any]:
    work = partial(verb, services.settings, services.table, run_id)
    with told(run_id):
        return run_object(await anyio.to_thread.run_sync(work))


def _priority(services: Services, principal: Principal, wanted: int | None) -> int | None:
    return None if wanted is None else priority_for(services, principal, wanted)
