"""/v1/jobs: submit, list, look at and cancel bulk jobs. What came of them: see job_results."""

from functools import partial
from typing import Annotated, Any

import anyio
import anyio.to_thread
import redis
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from ...jobs.batch_record import UnknownBatch
from ...jobs.ending import cancel
from ...jobs.errors import CorruptJob, InvalidJob, UnknownJob
from ...jobs.job_dir import JobDir
from ...jobs.model import Counts, JobSnapshot, JobSpec, JobState
from ...jobs.removal import remove
from ...jobs.submission import Source, Submission, submit
from ...jobs.workflow.orders.order_names import run_of
from ..bodies import MAX_JSON_BYTES, json_body, read_json
from ..creations import ADMITTED
from ..errors import Conflict, InvalidRequest, Unavailable
from ..home import require_home
from ..job_lookup import find_job, show
from ..job_object import job_object
from ..job_schemas import JobRequest
from ..job_wish import source_of, wish_of
from ..long_poll import SeenState, WaitS
from ..pages import list_of, nothing_behind
from ..principal import Principal, ThePrincipal
from ..row_uploads import receive_rows, spool_file
from ..services import Services, TheServices
from ..upload import is_multipart

MAX_JOB_JSON_BYTES = 32 << 20  # rows inside the request; larger inputs come as a file
LONGEST_LIST = 100

router = APIRouter(tags=["jobs"])


@router.post(
    "/v1/jobs", status_code=202, openapi_extra=json_body(JobRequest), dependencies=[ADMITTED]
)
async def create_job(
    request: Request, services: TheServices, principal: ThePrincipal
) -> JSONResponse:
    """Accept a job: its rows are on disk when the 202 leaves."""
    require_home(services)
    if not is_multipart(request):
        body = await read_json(request, JobRequest, MAX_JOB_JSON_BYTES)
        source = source_of(services, principal, body)
        return await _create(request, services, principal, body, source)
    with spool_file(services.settings) as file:
        body, source = await receive_rows(request, JobRequest, file, max_json_bytes=MAX_JSON_BYTES)
        if body.input is not None:
            raise InvalidRequest("the rows come as the part `file`; leave input out", param="input")
        return await _create(request, services, principal, body, source)


@router.get("/v1/jobs")
async def list_jobs(
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[
        int, Query(ge=1, le=LONGEST_LIST, description="How many jobs a page has.")
    ] = 20,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
    status: Annotated[
        list[JobState] | None, Query(description="Only jobs in this state; may be given again.")
    ] = None,
) -> dict[str, Any]:
    """List jobs, newest first. Those that serve a workflow's run show in the run."""
    work = partial(
        services.table.list,
        after,
        limit + 1,
        tenant=principal.tenant,
        states=status,
        is_listed=lambda listed: run_of(listed) is None,
    )
    try:
        jobs = await anyio.to_thread.run_sync(work)
    except UnknownJob:
        raise nothing_behind(after or "") from None
    data = [await show(services, job) for job in jobs[:limit]]
    return list_of(data, has_more=len(jobs) > limit)


@router.get("/v1/jobs/{job_id}")
async def get_job(
    job_id: str,
    request: Request,
    services: TheServices,
    principal: ThePrincipal,
    wait_s: WaitS = 0.0,
    seen: SeenState = None,
) -> dict[str, Any]:
    """Show a job; with `wait`, as soon as something about it changes, or after so many seconds."""
    look = partial(find_job, services, principal, job_id)
    job = await services.polls.next_change(request, job_id, look, _face, wait_s, seen)
    return await show(services, job)


@router.post("/v1/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Stop a job. What has landed stays; a job that has ended is left as it is."""
    job = await find_job(services, principal, job_id)
    if not job.state.is_final:
        job = await anyio.to_thread.run_sync(cancel, services.settings, services.table, job_id)
    return await show(services, job)


@router.delete("/v1/jobs/{job_id}")
async def delete_job(job_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Remove a job that has ended, its input and its rows; what it has used stays on record."""
    require_home(services)
    job = await find_job(services, principal, job_id)
    await anyio.to_thread.run_sync(_require_unused, services, job)
    try:
        await anyio.to_thread.run_sync(remove, services.settings, services.table, job)
    except InvalidJob as error:
        raise Conflict(str(error), param=error.param) from error
    services.stored.freed(job.tenant)
    return {"id": job_id, "object": "job", "deleted": True}


def _require_unused(services: Services, job: JobSnapshot) -> None:
    """Refuse to remove what a batch has not rendered yet.

    Raises:
        Conflict: the job is one of a batch that has not ended.
    """
    try:
        spec = JobDir(services.settings.jobs_dir, job.job_id).read_spec()
        batch = services.batches.get(spec.metadata.get("batch_id", ""), job.tenant)
    except (UnknownJob, CorruptJob, UnknownBatch):  # nothing is left of it, or it is nobody's
        return
    if batch.ended() is None:
        raise Conflict(f"the job is a part of {batch.spec.id}, which has not ended", param="job_id")


async def _create(
    request: Request,
    services: Services,
    principal: Principal,
    body: JobRequest,
    source: Source,
) -> JSONResponse:
    wish = await wish_of(request, services, principal, body)
    work = partial(submit, services.settings, services.table, source, wish)
    submission = await anyio.to_thread.run_sync(work, limiter=services.submissions)
    return await _accepted(services, principal, submission)


async def _accepted(
    services: Services, principal: Principal, submission: Submission
) -> JSONResponse:
    spec = submission.spec
    try:
        job = await find_job(services, principal, spec.job_id)
    except (Unavailable, redis.RedisError):  # it is on disk; the table will learn of it
        job = _unentered(spec)
    if submission.created:
        services.meters.count_job(spec.task.model)
    rejected = {
        "count": submission.num_rejected,
        "errors": [{"line": bad.line, "message": bad.message} for bad in submission.rejected],
    }
    return JSONResponse(
        {**job_object(job, spec.metadata, services.rates), "rejected": rejected},
        status_code=202,
        headers={"location": f"/v1/jobs/{spec.job_id}"}
        | ({} if submission.created else {"idempotent-replayed": "true"}),
    )


def _unentered(spec: JobSpec) -> JobSnapshot:
    """Return how a job stands that the table has not heard of: all of it waits."""
    return JobSnapshot(
        job_id=spec.job_id,
        state=JobState.QUEUED,
        counts=Counts(total=spec.num_rows, pending=spec.num_rows, rejected=spec.num_rejected),
        num_shards=spec.num_shards,
        shards_landed=0,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=0,
        created_at_ms=spec.created_at_ms,
        started_at_ms=None,
        finished_at_ms=None,
        model=spec.task.model,
        name=spec.name,
        priority=spec.priority,
        tenant=spec.tenant,
        out=spec.out,
    )


def _face(job: JobSnapshot) -> tuple[object, ...]:
    """What a watcher would see change."""
    return job.state, job.counts, job.completion_tokens
