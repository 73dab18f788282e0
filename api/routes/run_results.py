"""What comes of a run: its rows and their histories, its errors, and the events meanwhile."""

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from ...jobs.errors import UnknownJob
from ...jobs.workflow.runs.run_errors import read_errors
from ...jobs.workflow.runs.runs import RunSnapshot
from ...jobs.workflow.runs.tracing import UnknownRow, trace_row
from ..errors import InvalidRequest, NotFound, shown
from ..event_feed import event_feed
from ..principal import ThePrincipal
from ..result_formats import MEDIA_TYPES
from ..run_lookup import find_run
from ..run_pages import RunFormat, table_page
from ..run_rows import rows_of
from ..services import Services, TheServices
from ..workflow_object import row_lines, run_object, trace_object
from ..workflow_requests import told
from .job_results import MAX_PAGE_ROWS, PAGE_ROWS

_After = Annotated[int, Query(ge=0, description="`x-next-cursor` of the page before.")]
_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS, description="How many rows a page has.")]
_Format = Annotated[RunFormat, Query(description="JSON lines, an Arrow stream, or Parquet.")]

router = APIRouter(tags=["workflows"])


@router.get("/v1/workflows/runs/{run_id}/results")
async def get_run_results(
    run_id: str,
    services: TheServices,
    principal: ThePrincipal,
    after: _After = 0,
    limit: _Limit = PAGE_ROWS,
    format: _Format = "jsonl",
) -> Response:
    """Return rows of the output, also while the run goes on.

    As an Arrow stream or Parquet, documents are JSON text, as they land, and columns of inputs have
    the types that they came with.
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
    after: _After = 0,
    limit: _Limit = PAGE_ROWS,
    format: _Format = "jsonl",
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
    except UnknownJob as error:
        message = f"{run_id} has no row {shown(row_id)}, in no step that has come so far"
        if isinstance(error, UnknownRow) and error.children:
            message += f"; of that row there are {', '.join(map(shown, error.children))}"
        raise NotFound(message, param="row_id", code="row_not_found") from None
    return {
        "object": "workflow.row",
        "run_id": run_id,
        "row_id": row_id,
        "steps": [trace_object(trace) for trace in traces],
    }


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


async def _page(
    services: Services,
    run: RunSnapshot,
    step: str | None,
    after: int,
    limit: int,
    format: RunFormat,
) -> Response:
    settings, ends = services.settings, services.part_ends

    def work() -> tuple[int, bytes]:
        if format != "jsonl":
            return table_page(settings, run.run_id, step, format, after, limit, ends)
        found = rows_of(settings, run.run_id, step, after=after, limit=limit, ends=ends)
        return len(found), row_lines(found)

    with told(run.run_id):
        num_rows, body = await anyio.to_thread.run_sync(work)
    headers = {"x-incomplete": "false" if run.state.is_final else "true"}
    if num_rows == limit or not run.state.is_final:
        headers["x-next-cursor"] = str(after + num_rows)
    return Response(body, headers=headers, media_type=MEDIA_TYPES[format])
