"""/v1/workflows/runs: workflows at work: begin one, look at it, steer it, read its rows."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import anyio
import anyio.to_thread
import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from ...jobs.api_keys import Scope
from ...jobs.errors import InvalidJob, UnknownJob
from ...jobs.model import JobState
from ...jobs.sources import FileSource, Source
from ...jobs.workflow.replanning import plan_of
from ...jobs.workflow.runs.run_dir import RunDir
from ...jobs.workflow.runs.run_removal import remove_run
from ...jobs.workflow.runs.run_submission import RunRequest, submit_run
from ...jobs.workflow.runs.runs import (
    RunSnapshot,
    cancel_run,
    list_runs,
    pause_run,
    read_run,
    resume_run,
    step_rows,
)
from ...jobs.workflow.runs.tracing import trace_row
from ...jobs.workflow.typed_columns import PARSED, typed_columns
from ..bodies import json_body, parse, read_json
from ..creations import ADMITTED
from ..errors import Conflict, InvalidRequest, NotFound, shown
from ..event_feed import event_feed
from ..home import require_home
from ..idempotency_key import idempotency_key_of
from ..job_wish import priority_for
from ..long_poll import SeenState, WaitS
from ..pages import list_of, nothing_behind
from ..principal import Principal, ThePrincipal
from ..result_formats import MEDIA_TYPES
from ..run_pages import RunFormat, table_page
from ..services import Services, TheServices
from ..upload import Form, is_multipart, receive_upload
from ..workflow_errors import RunNotFound
from ..workflow_object import row_lines, run_object, trace_object
from ..workflow_requests import sources_of, specification, told
from ..workflow_schemas import RunRequestBody
from .job_results import MAX_PAGE_ROWS, PAGE_ROWS
from .jobs import LONGEST_LIST, MAX_JOB_JSON_BYTES

_UPLOAD = Form(
    fields=frozenset({"request"}),
    required=frozenset({"request", "file"}),
    max_field_bytes=MAX_JOB_JSON_BYTES,
)

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
    spool = services.settings.data_dir / "uploads"
    spool.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=spool) as file:  # has no name: nothing of it can stay behind
        upload = await receive_upload(request, _UPLOAD, file)
        body = parse(upload.fields["request"], RunRequestBody)
        source = FileSource(file, upload.filename)
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


@router.post("/v1/workflows/runs/{run_id}/cancel")
async def cancel(run_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Stop a run. What has landed stays; a run that has ended is left as it is."""
    run = await find_run(services, principal, run_id)
    return run_object(run) if run.state.is_final else await _steer(services, cancel_run, run_id)


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


@router.get("/v1/workflows/runs/{run_id}/results")
async def get_run_results(
    run_id: str,
    services: TheServices,
    principal: ThePrincipal,
    after: Annotated[int, Query(ge=0, description="`x-next-cursor` of the page before.")] = 0,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE_ROWS, description="How many rows a page has.")
    ] = PAGE_ROWS,
    format: Annotated[
        RunFormat, Query(description="JSON lines, an Arrow stream, or Parquet.")
    ] = "jsonl",
) -> Response:
    """Return rows of the output, also while the run goes on.

    As an Arrow stream or Parquet, documents are JSON text, as they land.
    `x-next-cursor` is where the next page begins; `x-incomplete: true` says that more may come.
    """
    run = await find_run(services, principal, run_id)
    return await _page(services, run, None, after, limit, format)


@router.get("/v1/workflows/runs/{run_id}/steps/{step}/rows")
async def get_step_rows(
    run_id: str,
    step: str,
    services: TheServices,
    principal: ThePrincipal,
    after: Annotated[int, Query(ge=0, description="`x-next-cursor` of the page before.")] = 0,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE_ROWS, description="How many rows a page has.")
    ] = PAGE_ROWS,
    format: Annotated[
        RunFormat, Query(description="JSON lines, an Arrow stream, or Parquet.")
    ] = "jsonl",
) -> Response:
    """Return rows of one step, as `results` does those of the output."""
    run = await find_run(services, principal, run_id)
    known = [each.id for each in run.steps]
    if step not in known:
        raise InvalidRequest(f"the run has no step {step[:80]!r}; it has {', '.join(known)}")
    return await _page(services, run, step, after, limit, format)


@router.get("/v1/workflows/runs/{run_id}/rows")
async def get_row(
    run_id: str,
    services: TheServices,
    principal: ThePrincipal,
    row_id: Annotated[
        str, Query(min_length=1, max_length=2_000, description="The row's `row_id`.")
    ],
) -> dict[str, Any]:
    """Tell the history of one row: what each step asked for it, was answered, and made of it."""
    run = await find_run(services, principal, run_id)
    work = partial(trace_row, services.settings, run.run_id, row_id)
    try:
        traces = await anyio.to_thread.run_sync(work)
    except UnknownJob:
        message = f"{run_id} has no row {shown(row_id)}, in no step that has come so far"
        raise NotFound(message, param="row_id", code="row_not_found") from None
    return {
        "object": "workflow.row",
        "run_id": run_id,
        "row_id": row_id,
        "steps": [trace_object(trace) for trace in traces],
    }


@router.get("/v1/workflows/runs/{run_id}/events")
async def follow_run_events(
    run_id: str,
    request: Request,
    services: TheServices,
    principal: ThePrincipal,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Stream what happens to a run, as for a job; `step.progress` tells of single steps."""
    await find_run(services, principal, run_id)

    async def look() -> tuple[dict[str, Any], bool]:
        run = await find_run(services, principal, run_id)
        return run_object(run), run.state.is_final

    return await event_feed(request, services, run_id, last_event_id, look)


async def find_run(services: Services, principal: Principal, run_id: str) -> RunSnapshot:
    """Look a run up. Another tenant's is as one that is not there.

    Raises:
        RunNotFound: there is no such run.
    """
    work = partial(read_run, services.settings, services.table, run_id)
    with told(run_id):
        run = await anyio.to_thread.run_sync(work)
    if run.tenant != principal.tenant:
        raise RunNotFound(run_id)
    return run


async def begin(services: Services, wish: RunRequest) -> RunSnapshot:
    """Seal a run.

    Raises:
        WorkflowRefused: with all that is wrong.
    """
    require_home(services)
    wish = replace(wish, served=frozenset(await services.catalog.served()))
    work = partial(submit_run, services.settings, services.table, wish)
    with told():
        return await anyio.to_thread.run_sync(work, limiter=services.submissions)


def rows_of(
    services: Services, run_id: str, step: str | None, *, after: int = 0, limit: int
) -> list[dict[str, Any]]:
    """Read rows of a step, or of the output; what lies as JSON text becomes what it says."""
    plan = plan_of(RunDir(services.settings.runs_dir, run_id).read())
    columns = plan.output_columns if step is None else plan.step(step).columns
    documents = {name for name, kind in columns.items() if kind == "json"}
    told_once = {name + PARSED for name in typed_columns(plan)} if step is None else set()
    return [
        {
            name: _document(value) if name in documents else value
            for name, value in row.items()
            if name not in told_once
        }
        for row in step_rows(services.settings, run_id, step, after=after, limit=limit)
    ]


def _document(text: Any) -> Any:
    return msgspec.json.decode(text) if isinstance(text, str) else text


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


async def _steer(
    services: Services, verb: Callable[..., RunSnapshot], run_id: str
) -> dict[str, Any]:
    work = partial(verb, services.settings, services.table, run_id)
    with told(run_id):
        return run_object(await anyio.to_thread.run_sync(work))


async def _page(
    services: Services,
    run: RunSnapshot,
    step: str | None,
    after: int,
    limit: int,
    format: RunFormat,
) -> Response:
    def work() -> tuple[int, bytes]:
        if format != "jsonl":
            return table_page(services.settings, run.run_id, step, format, after, limit)
        found = rows_of(services, run.run_id, step, after=after, limit=limit)
        return len(found), row_lines(found)

    with told(run.run_id):
        num_rows, body = await anyio.to_thread.run_sync(work)
    headers = {"x-incomplete": "false" if run.state.is_final else "true"}
    if num_rows == limit or not run.state.is_final:
        headers["x-next-cursor"] = str(after + num_rows)
    return Response(body, headers=headers, media_type=MEDIA_TYPES[format])


def _face(run: RunSnapshot) -> tuple[object, ...]:
    """What a watcher would see change."""
    return run.state, run.status_reason, run.output_rows, run.steps
