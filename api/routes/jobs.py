"""/v1/jobs: submit, list, look at and cancel bulk jobs. What came of them: see job_results."""

import re
import tempfile
import time
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import anyio
import anyio.to_thread
import redis
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from ...jobs.api_keys import Scope
from ...jobs.control import read_control
from ...jobs.ending import cancel
from ...jobs.errors import CorruptJob, InvalidJob, UnknownJob
from ...jobs.job_dir import JobDir
from ...jobs.job_limits import read_deadline, read_window
from ...jobs.model import (
    DEFAULT_PRIORITY,
    ERROR_RATE_AFTER,
    Counts,
    JobSnapshot,
    JobSpec,
    JobState,
    Message,
    TaskSpec,
)
from ...jobs.removal import remove
from ...jobs.submission import (
    FileSource,
    NamedFileSource,
    PathSource,
    RowsSource,
    Source,
    Submission,
    SubmitRequest,
    submit,
)
from ...jobs.template_options import template_options_of
from ...jobs.tool_use import tool_use_of
from ...jobs.workflow.order_names import run_of
from ..bodies import MAX_JSON_BYTES, json_body, parse, read_json
from ..errors import Conflict, InvalidRequest, JobGone, JobNotFound, Unavailable
from ..job_object import job_object
from ..job_schemas import JobRequest
from ..principal import Principal, ThePrincipal
from ..services import Services, TheServices
from ..storage_quota import announced_bytes, require_room
from ..upload import Form, is_multipart, receive_upload

MAX_JOB_JSON_BYTES = 32 << 20  # rows inside the request; larger inputs come as a file
MAX_WAIT_S = 60.0
LONGEST_LIST = 100
_LOOK_EVERY_S = 0.25
_UPLOAD = Form(
    fields=frozenset({"request"}),
    required=frozenset({"request", "file"}),
    max_field_bytes=MAX_JSON_BYTES,
)
_JOB_ID = re.compile(r"job_[0-9A-HJKMNP-TV-Z]{26}")

router = APIRouter(tags=["jobs"])


@router.post("/v1/jobs", status_code=202, openapi_extra=json_body(JobRequest))
async def create_job(
    request: Request, services: TheServices, principal: ThePrincipal
) -> JSONResponse:
    """Accept a job: its rows are on disk when the 202 leaves."""
    require_home(services)
    await require_room(services, principal, announced_bytes(request))
    if not is_multipart(request):
        body = await read_json(request, JobRequest, MAX_JOB_JSON_BYTES)
        source = _source_of(services, principal, body)
        return await _create(request, services, principal, body, source)
    spool = services.settings.data_dir / "uploads"
    spool.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=spool) as file:  # has no name: nothing of it can stay behind
        upload = await receive_upload(request, _UPLOAD, file)
        body = parse(upload.fields["request"], JobRequest)
        if body.input is not None:
            raise InvalidRequest("the rows come as the part `file`; leave input out", param="input")
        # Only the suffix of the name is ever used, to tell the format.
        source = FileSource(file, upload.filename)
        return await _create(request, services, principal, body, source)


@router.get("/v1/jobs")
async def list_jobs(
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[int, Query(ge=1, le=LONGEST_LIST)] = 20,
    after: str | None = None,
) -> dict[str, Any]:
    """List jobs, newest first. Those that serve a workflow's run show in the run."""
    if after is not None:
        check_job_id(after)
    work = partial(
        services.table.list,
        after,
        limit + 1,
        tenant=principal.tenant,
        is_listed=lambda listed: run_of(listed) is None,
    )
    jobs = await anyio.to_thread.run_sync(work)
    data = [await show(services, job) for job in jobs[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(jobs) > limit,
    }


@router.get("/v1/jobs/{job_id}")
async def get_job(
    job_id: str,
    services: TheServices,
    principal: ThePrincipal,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0.0,
) -> dict[str, Any]:
    """Show a job; with `wait`, as soon as something about it changes, or after so many seconds."""
    job = first = await find_job(services, principal, job_id)
    deadline_s = time.monotonic() + wait
    while not job.state.is_final and _face(job) == _face(first):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            break
        await anyio.sleep(min(_LOOK_EVERY_S, left_s))
        job = await find_job(services, principal, job_id)
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
    try:
        await anyio.to_thread.run_sync(remove, services.settings, services.table, job)
    except InvalidJob as error:
        raise Conflict(str(error), param=error.param) from error
    return {"id": job_id, "object": "job", "deleted": True}


def require_home(services: Services) -> None:
    """Refuse to take in or remove anything on a disk that is not the queue's.

    Raises:
        Unavailable: no worker would find it there.
    """
    if services.keeper.is_elsewhere:
        message = "this API has another data directory than the queue; nothing was changed"
        raise Unavailable(message, code="storage_unavailable")


def check_job_id(job_id: str) -> None:
    """Refuse what cannot be a job's id before it reaches a file name or a key."""
    if not _JOB_ID.fullmatch(job_id):
        raise JobNotFound(job_id)


async def find_job(services: Services, principal: Principal, job_id: str) -> JobSnapshot:
    """Look a job up. Another tenant's is as one that is not there.

    Raises:
        JobNotFound: there is no such job.
        Unavailable: it is on disk, and the table has not been told of it yet, or again.
    """
    check_job_id(job_id)
    job = await anyio.to_thread.run_sync(services.table.snapshot, job_id)
    if job is None or job.tenant != principal.tenant:
        if await anyio.to_thread.run_sync(_is_on_disk, services, principal.tenant, job_id):
            raise Unavailable(
                f"{job_id} is safe on disk, but not in the job table at the moment; look again",
                code="queue_unavailable",
            )
        raise JobNotFound(job_id)
    return job


def _is_on_disk(services: Services, tenant: str, job_id: str) -> bool:
    try:
        return JobDir(services.settings.jobs_dir, job_id).read_spec().tenant == tenant
    except (UnknownJob, CorruptJob):
        return False


async def show(services: Services, job: JobSnapshot) -> dict[str, Any]:
    """Return a job as clients see it; its metadata is in the job directory only.

    A directory that is gone or damaged is told as the job's error: it must not hide the job, nor
    the others of a list.
    """
    try:
        spec = await read_spec(services, job.job_id)
        job_dir = JobDir(services.settings.jobs_dir, job.job_id)
        metadata = (await anyio.to_thread.run_sync(read_control, job_dir, spec)).metadata
    except (JobGone, CorruptJob, OSError) as error:
        return job_object(replace(job, error=job.error or str(error)), {}, services.rates)
    reason = job.status_reason
    if reason is None:
        reason = await anyio.to_thread.run_sync(services.quotas.reason, job)
    return job_object(replace(job, status_reason=reason), metadata, services.rates)


async def read_spec(services: Services, job_id: str) -> JobSpec:
    """Read what a job that the table knows was told to do.

    Raises:
        JobGone: its directory is not there any more.
        CorruptJob: it cannot be read.
    """
    try:
        return await anyio.to_thread.run_sync(JobDir(services.settings.jobs_dir, job_id).read_spec)
    except UnknownJob:
        raise JobGone(job_id) from None


async def _create(
    request: Request,
    services: Services,
    principal: Principal,
    body: JobRequest,
    source: Source,
) -> JSONResponse:
    if body.output and body.output.path:
        principal.require(Scope.ADMIN, "to name a place on the server for the rows (output.path)")
    wish = SubmitRequest(
        task=await _task_of(services, body),
        name=body.name,
        id_column=body.id,
        tenant=principal.tenant,
        priority=priority_for(services, principal, body.priority),
        deadline_ms=await _deadline(services, body),
        max_error_rate=body.max_error_rate,
        error_rate_after=(
            ERROR_RATE_AFTER if body.error_rate_after is None else body.error_rate_after
        ),
        out=body.output.path if body.output else None,
        metadata=body.metadata or {},
        idempotency_key=_idempotency_key(request, body),
        format=body.format,
    )
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


def priority_for(services: Services, principal: Principal, wanted: int | None) -> int:
    """Return the priority that a job gets, which must not be above its tenant's ceiling.

    Raises:
        InvalidRequest: more is asked for than the tenant may have.
    """
    tenant = services.tenants.get(principal.tenant)
    priority = DEFAULT_PRIORITY if wanted is None else wanted
    if wanted is not None and tenant.capped(priority) < priority:
        raise InvalidRequest(
            f"priority may be at most {tenant.priority_ceiling} for this tenant, got {priority}",
            param="priority",
            code="priority_above_ceiling",
        )
    return tenant.capped(priority)


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


async def _deadline(services: Services, body: JobRequest) -> int | None:
    """Say by when the job must have ended, by the queue's own clock."""
    if body.completion_window is not None:
        return read_window(body.completion_window, await now_ms(services))
    return None if body.deadline is None else read_deadline(body.deadline, await now_ms(services))


async def now_ms(services: Services) -> int:
    """Read the one clock by which deadlines are judged."""
    return await anyio.to_thread.run_sync(services.table.now_ms)


async def _task_of(services: Services, body: JobRequest) -> TaskSpec:
    model = body.model or await services.catalog.only()
    await services.catalog.require(model)
    messages = None
    if body.messages is not None:
        messages = tuple(Message(each.role, each.content) for each in body.messages)
    return TaskSpec(
        model=model,
        prompt=body.prompt,
        messages=messages,
        endpoint=body.endpoint,
        sampling=body.sampling or {},
        response_format=body.response_format,
        tools=tool_use_of(body.tools, body.tool_choice, body.parallel_tool_calls),
        template_options=template_options_of(body.chat_template_kwargs),
        dimensions=body.dimensions,
    )


def _source_of(services: Services, principal: Principal, body: JobRequest) -> Source:
    given = body.input and (body.input.path, body.input.file_id, body.input.rows)
    if body.input is None or given is None:
        raise InvalidRequest(
            "input is required: {path}, {file_id} or {rows}, or upload a file as "
            "multipart/form-data",
            param="input",
            code="missing_required_parameter",
        )
    if sum(each is not None for each in given) != 1:
        raise InvalidRequest("input takes one of path, file_id and rows", param="input")
    if body.input.rows is not None:
        return RowsSource(body.input.rows)
    if body.input.file_id is not None:
        stored = services.files.get(body.input.file_id, principal.tenant)
        return NamedFileSource(services.files.path(stored), stored.filename)
    principal.require(Scope.ADMIN, "to read a file of the server (input.path)")
    return PathSource(body.input.path or "")


def _idempotency_key(request: Request, body: JobRequest) -> str | None:
    header = request.headers.get("idempotency-key")
    if header and len(header) > 512:
        raise InvalidRequest("idempotency-key may have at most 512 characters")
    if header and body.idempotency_key and header != body.idempotency_key:
        raise InvalidRequest(
            "the header Idempotency-Key and idempotency_key differ", param="idempotency_key"
        )
    return header or body.idempotency_key


def _face(job: JobSnapshot) -> tuple[object, ...]:
    """What a watcher would see change."""
    return job.state, job.counts, job.completion_tokens
