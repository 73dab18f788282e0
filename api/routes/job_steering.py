"""/v1/jobs/{id}, as it is steered: paused, resumed, changed, and what failed of it run again."""

from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ...jobs.job_limits import check_deadline, read_deadline
from ...jobs.retrying import retry
from ...jobs.steering import Changes, change, pause, resume
from ..bodies import MAX_CHANGE_BYTES, json_body, read_json, read_optional_json
from ..creations import ADMITTED
from ..errors import Conflict
from ..home import require_home
from ..idempotency_key import idempotency_key_of
from ..job_lookup import find_job, show
from ..job_object import job_object
from ..job_schemas import JobChange, RetryRequest
from ..job_wish import now_ms, priority_for
from ..named_changes import named_changes
from ..principal import Principal, ThePrincipal
from ..services import Services, TheServices

router = APIRouter(tags=["jobs"])


@router.post("/v1/jobs/{job_id}/pause")
async def pause_job(job_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Begin nothing more of a job; what is running goes on to its end, and lands.

    The pause is on disk when the answer leaves.
    """
    job = await find_job(services, principal, job_id)
    if job.state.is_final:
        raise Conflict(f"{job_id} has ended ({job.state}): there is nothing to pause")
    work = partial(pause, services.settings, services.table, job_id)
    return await show(services, await anyio.to_thread.run_sync(work))


@router.post("/v1/jobs/{job_id}/resume")
async def resume_job(job_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Let a job go on that pauses, for whatever reason; any other is left as it is."""
    await find_job(services, principal, job_id)
    work = partial(resume, services.settings, services.table, job_id)
    return await show(services, await anyio.to_thread.run_sync(work))


@router.patch("/v1/jobs/{job_id}", openapi_extra=json_body(JobChange))
async def change_job(
    job_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Change a job's name, metadata, priority, deadline or rate of errors, at once.

    What is not named stays as it is; null takes a name, a deadline or a rate away.
    """
    body = await read_json(request, JobChange, MAX_CHANGE_BYTES)
    await find_job(services, principal, job_id)
    changes = await _changes(services, principal, body)
    work = partial(change, services.settings, services.table, job_id, **changes)
    return await show(services, await anyio.to_thread.run_sync(work))


@router.post(
    "/v1/jobs/{job_id}/retry",
    status_code=202,
    openapi_extra=json_body(RetryRequest, is_required=False),
    dependencies=[ADMITTED],
)
async def retry_job(
    job_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> JSONResponse:
    """Run again what failed of a job that has ended, as a job of its own.

    When that completes, its rows take the places of those that failed. While one retry runs, the
    next request finds it; one with the same `Idempotency-Key` finds it ever after. To retry a retry
    is to retry the job whose rows it ran.
    """
    body = await read_optional_json(request, RetryRequest, MAX_CHANGE_BYTES)
    require_home(services)
    await find_job(services, principal, job_id)
    if body.priority is not None:
        priority_for(services, principal, body.priority)
    work = partial(
        retry,
        services.settings,
        services.table,
        job_id,
        codes=None if body.codes is None else frozenset(body.codes),
        name=body.name,
        priority=body.priority,
        idempotency_key=idempotency_key_of(request, None),
    )
    spec = await anyio.to_thread.run_sync(work, limiter=services.submissions)
    job = await find_job(services, principal, spec.job_id)
    return JSONResponse(
        job_object(job, spec.metadata, services.rates),
        status_code=202,
        headers={"location": f"/v1/jobs/{spec.job_id}"},
    )


async def _changes(services: Services, principal: Principal, body: JobChange) -> Changes:
    """Keep what was named; pydantic fills in the rest."""
    changes = Changes(**named_changes(services, principal, body))
    if "max_error_rate" in body.model_fields_set:
        changes["max_error_rate"] = body.max_error_rate
    if "deadline" in body.model_fields_set:
        changes["deadline_ms"] = None
        if body.deadline is not None:
            changes["deadline_ms"] = read_deadline(body.deadline, await now_ms(services))
            check_deadline(changes["deadline_ms"])
    return changes
