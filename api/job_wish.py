"""What a request asks of a job, as the queue takes it. Knows who asks and what they may; no input.

Nothing is made here; see `routes.jobs`.
"""

from pathlib import PurePosixPath

import anyio.to_thread
from starlette.requests import Request

from ..jobs.api_keys import Scope
from ..jobs.job_limits import read_deadline, read_window
from ..jobs.model import DEFAULT_PRIORITY, ERROR_RATE_AFTER, Message, TaskSpec
from ..jobs.sources import NamedFileSource, PathSource, RowsSource, Source
from ..jobs.submission import SubmitRequest
from ..jobs.template_options import template_options_of
from ..jobs.tool_use import tool_use_of
from .errors import InvalidRequest, shown
from .idempotency_key import idempotency_key_of
from .job_schemas import JobRequest
from .principal import Principal
from .services import Services


async def wish_of(
    request: Request, services: Services, principal: Principal, body: JobRequest
) -> SubmitRequest:
    """Return all that a request says of its job, beside the rows.

    Raises:
        InvalidRequest, NotFound: it says what cannot be.
        NotAllowed: it takes another key.
    """
    if body.output and body.output.path:
        principal.require(Scope.ADMIN, "to name a place on the server for the rows (output.path)")
        _check_place(body.output.path)
    task = await _task_of(services, body)
    return SubmitRequest(
        task=task,
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
        idempotency_key=idempotency_key_of(request, body.idempotency_key),
        format=body.format,
        context_window=await services.catalog.max_model_len(task.model),
    )


def _check_place(path: str) -> None:
    """Refuse a place that would be another one wherever the server happens to be started."""
    if not (path.startswith("s3://") or PurePosixPath(path).is_absolute()):
        raise InvalidRequest(
            "output.path must be an absolute path of the server's machine, or s3://bucket/prefix, "
            f"got {shown(path)}",
            param="output",
        )


def source_of(services: Services, principal: Principal, body: JobRequest) -> Source:
    """Return where a request without a file says that its rows are.

    Raises:
        InvalidRequest, UnknownFile: it names none, or several, or one that is not there.
        NotAllowed: it takes another key.
    """
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


async def now_ms(services: Services) -> int:
    """Read the one clock by which deadlines are judged."""
    return await anyio.to_thread.run_sync(services.table.now_ms)


async def _deadline(services: Services, body: JobRequest) -> int | None:
    """Say by when the job must have ended, by the queue's own clock."""
    if body.completion_window is not None:
        return read_window(body.completion_window, await now_ms(services))
    return None if body.deadline is None else read_deadline(body.deadline, await now_ms(services))


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
