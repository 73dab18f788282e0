"""/v1/workflows/runs: begin a run, list, look at and cancel them.

What comes of them: see run_results; how they are steered: run_steering.
"""

from functools import partial
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from ...jobs.api_keys import Scope
from ...jobs.errors import InvalidJob
from ...jobs.model import JobState
from ...jobs.sources import Source
from ...jobs.workflow.runs.run_removal import remove_run
from ...jobs.workflow.runs.run_submission import RunRequest
from ...jobs.workflow.runs.runs import (
    RunSnapshot,
    cancel_run,
    list_runs,
)
from ..bodies import json_body, read_json
from ..creations import ADMITTED
from ..errors import Conflict, InvalidRequest
from ..home import require_home
from ..idempotency_key import idempotency_key_of
from ..job_wish import priority_for
from ..long_poll import SeenState, WaitS
from ..pages import list_of, nothing_behind
from ..principal import Principal, ThePrincipal
from ..row_uploads import receive_rows, spool_file
from ..run_lookup import find_run
from ..run_start import begin
from ..services import Services, TheServices
from ..upload import is_multipart
from ..workflow_errors import RunNotFound
from ..workflow_object import run_object
from ..workflow_requests import sources_of, specification, told
from ..workflow_schemas import RunRequestBody
from .jobs import LONGEST_LIST, MAX_JOB_JSON_BYTES

router = APIRouter(tags=["workflows"])


@router.post(
    "/v1/workflows/runs",
    status_code=202,
    openapi_extra=json_body(RunRequestBody),
    dependencies=[ADMITTED],
)
async def create_run(
    request: Request, services: TheServices, principal: ThePrincipal
) -> JSONResponse:
    """Accept a run: its rows are on disk when the 202 leaves."""
    if not is_multipart(request):
        body = await read_json(request, RunRequestBody, MAX_JOB_JSON_BYTES)
        return await _create(request, services, principal, body)
    with spool_file(services.settings) as file:
        body, source = await receive_rows(
            request, RunRequestBody, file, max_json_bytes=MAX_JOB_JSON_BYTES
        )
        return await _create(request, services, principal, body, source)


@router.get("/v1/workflows/runs")
async def get_runs(
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[
        int, Query(ge=1, le=LONGEST_LIST, description="How many runs a page has.")
    ] = 20,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
    status: Annotated[
        list[JobState] | None, Query(description="Only runs in this state; may be given again.")
    ] = None,
) -> dict[str, Any]:
    """List runs, newest first."""
    work = partial(
        list_runs,
        services.settings,
        services.table,
        tenant=principal.tenant,
        states=status,
        after=after,
        limit=limit + 1,
    )
    if after is not None:
        try:
            await find_run(services, principal, after)
        except RunNotFound:
            raise nothing_behind(after) from None
    with told():
        runs = list(await anyio.to_thread.run_sync(work))
    return list_of([run_object(run) for run in runs[:limit]], has_more=len(runs) > limit)


@router.get("/v1/workflows/runs/{run_id}")
async def get_run(
    run_id: str,
    request: Request,
    services: TheServices,
    principal: ThePrincipal,
    wait_s: WaitS = 0.0,
    seen: SeenState = None,
) -> dict[str, Any]:
    """Show a run; with `wait`, as soon as something about it changes, or after so many seconds."""
    look = partial(find_run, services, principal, run_id)
    run = await services.polls.next_change(request, run_id, look, _face, wait_s, seen)
    return run_object(run)


@router.post("/v1/workflows/runs/{run_id}/cancel")
async def cancel(run_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Stop a run. What has landed stays; a run that has ended is left as it is."""
    run = await find_run(services, principal, run_id)
    if run.state.is_final:
        return run_object(run)
    work = partial(cancel_run, services.settings, services.table, run_id)
    with told(run_id):
        return run_object(await anyio.to_thread.run_sync(work))


@router.delete("/v1/workflows/runs/{run_id}")
async def delete_run(run_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Remove a run that has ended, its inputs and all its rows; what it has used is on record."""
    require_home(services)
    run = await find_run(services, principal, run_id)
    work = partial(remove_run, services.settings, services.table, run_id)
    try:
        with told(run_id):
            await anyio.to_thread.run_sync(work)
    except InvalidJob as error:
        raise Conflict(str(error), param=error.param) from error
    services.stored.freed(run.tenant)
    return {"id": run_id, "object": "workflow.run", "deleted": True}


async def _create(
    request: Request,
    services: Services,
    principal: Principal,
    body: RunRequestBody,
    uploaded: Source | None = None,
) -> JSONResponse:
    workflow = await specification(services, principal, body)
    sources = sources_of(services, principal, body.inputs)
    if uploaded is not None:
        sources[_name_of_upload(body, list(workflow.inputs))] = uploaded
    if body.output or (workflow.output.sink and workflow.output.sink.uri):
        principal.require(Scope.ADMIN, "to name a place on the server for the rows (output)")
    wish = RunRequest(
        workflow=workflow,
        sources=sources,
        params=body.params,
        tenant=principal.tenant,
        priority=priority_for(services, principal, body.priority),
        name=body.name,
        metadata=body.metadata or {},
        idempotency_key=idempotency_key_of(request, body.idempotency_key),
        seed=body.seed,
        use_cache=body.use_cache,
        out=body.output.path if body.output else None,
    )
    run = await begin(services, wish)
    return JSONResponse(
        run_object(run), status_code=202, headers={"location": f"/v1/workflows/runs/{run.run_id}"}
    )


def _name_of_upload(body: RunRequestBody, names: list[str]) -> str:
    """Tell which input an upload is."""
    lacking = [name for name in names if name not in body.inputs]
    if body.upload is not None:
        if body.upload not in lacking:
            raise InvalidRequest(
                f"upload: {body.upload!r} is no input that is still lacking ({lacking})",
                param="upload",
            )
        return body.upload
    if len(lacking) != 1:
        raise InvalidRequest(
            f"name in `upload` which input the file is: {', '.join(lacking) or 'none is lacking'}",
            param="upload",
        )
    return lacking[0]


def _face(run: RunSnapshot) -> tuple[object, ...]:
    """What a watcher would see change."""
    return run.state, run.status_reason, run.output_rows, run.steps
