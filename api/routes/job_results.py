"""What came of a job: its rows, its errors, and the events while it runs."""

from collections.abc import AsyncGenerator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.responses import Response

from ...jobs.job_dir import JobDir
from ...jobs.model import JobSnapshot, JobSpec, RowStatus
from ...jobs.results import Page, read_results
from ...jobs.workflow.runs.run_errors import REJECTED_LINE
from ..event_feed import event_feed
from ..job_lookup import find_job, read_spec, show
from ..principal import ThePrincipal
from ..result_formats import MEDIA_TYPES, ResultFormat, result_encoder
from ..services import Services, TheServices

PAGE_ROWS = 1_000
MAX_PAGE_ROWS = 10_000
MAX_CODE_CHARS = 100
_TOLD_OF_ERRORS = ["row_index", "custom_id", "sample_index", "error"]
NDJSON = MEDIA_TYPES["jsonl"]

router = APIRouter(tags=["jobs"])


@router.get("/v1/jobs/{job_id}/results")
async def get_results(
    job_id: str,
    services: TheServices,
    principal: ThePrincipal,
    after: Annotated[
        str | None, Query(description="`x-next-cursor`, or `next_cursor`, of the page before.")
    ] = None,
    limit: Annotated[
        int | None,
        Query(
            ge=1,
            le=MAX_PAGE_ROWS,
            description="How many rows a page has; without it all come, or 1,000 of `json`.",
        ),
    ] = None,
    status: Annotated[RowStatus | None, Query(description="Only rows that ended so.")] = None,
    format: Annotated[
        ResultFormat, Query(description="JSON lines, one JSON object, an Arrow stream, or Parquet.")
    ] = "jsonl",
    columns: Annotated[
        list[str] | None, Query(description="Only this column; may be given again.")
    ] = None,
) -> Response:
    """Return the landed rows in the order of the input, also while the job runs.

    With `limit`, or as one JSON object, one page: `x-next-cursor` is where the next one begins,
    and `x-incomplete: true` says that rows behind it have not landed yet. Without a limit,
    everything there is. A page of one `status` looks at so many rows and no more: it may be empty
    and yet have a next one, under another cursor. As an Arrow stream or Parquet, columns that came
    as Parquet have their own types again. `columns`, once for each, leaves the others out.
    """
    await find_job(services, principal, job_id)
    spec = await read_spec(services, job_id)
    encoder = result_encoder(format, spec, columns)

    async def read(cursor: str | None, num_rows: int) -> tuple[Page, bytes]:
        """Read and encode in a thread: ten thousand rows would hold up everybody else."""

        def work() -> tuple[Page, bytes]:
            page = read_results(services.table, spec, cursor, num_rows, status)
            return page, encoder.write(page)

        return await anyio.to_thread.run_sync(work)

    page, body = await read(after, limit or PAGE_ROWS)
    headers = {"x-incomplete": "true" if page.incomplete else "false"}
    media_type = MEDIA_TYPES[format]
    if format == "json" or limit is not None or page.next_cursor is None:
        if page.next_cursor is not None:
            headers["x-next-cursor"] = page.next_cursor
        return Response(body + encoder.end(), headers=headers, media_type=media_type)

    async def everything() -> AsyncGenerator[bytes, None]:
        cursor, following, piece = after, page.next_cursor, body
        while True:
            if piece:  # a page may add nothing yet
                yield piece
            if following is None or following == cursor:  # the next row has not landed yet
                yield encoder.end()
                return
            cursor = following
            next_page, piece = await read(cursor, PAGE_ROWS)
            following = next_page.next_cursor

    return StreamingResponse(everything(), headers=headers, media_type=media_type)


@router.get("/v1/jobs/{job_id}/errors")
async def get_errors(
    job_id: str,
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[
        int, Query(ge=1, le=MAX_PAGE_ROWS, description="How many of either list.")
    ] = PAGE_ROWS,
    code: Annotated[
        str | None,
        Query(
            max_length=MAX_CODE_CHARS,
            description=f"Only errors of this code; lines are of `{REJECTED_LINE}`.",
        ),
    ] = None,
) -> dict[str, Any]:
    """Return the lines that could not become rows, then the rows that failed.

    `limit` cuts either list; all failed rows, page by page, are `results?status=failed`.
    """
    job = await find_job(services, principal, job_id)
    spec = await read_spec(services, job_id)
    return await anyio.to_thread.run_sync(_errors, services, job, spec, limit, code)


def _errors(
    services: Services, job: JobSnapshot, spec: JobSpec, limit: int, code: str | None
) -> dict[str, Any]:
    job_dir = JobDir(services.settings.jobs_dir, spec.job_id)
    bad_lines = job_dir.read_bad_lines() if code in (None, REJECTED_LINE) else ()
    lines = [asdict(bad) for bad in islice(bad_lines, limit + 1)]
    has_rows = job.counts.failed and code != REJECTED_LINE
    failed, more = _failed_rows(services, spec, limit, code) if has_rows else ([], False)
    return {
        "object": "list",
        "data": [*lines[:limit], *failed],
        "has_more": len(lines) > limit or more,
    }


def _failed_rows(
    services: Services, spec: JobSpec, limit: int, code: str | None
) -> tuple[list[dict[str, Any]], bool]:
    """Collect failed rows, of one code or of all; also tell whether there may be more."""
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        page_rows = limit - len(rows) if code is None else MAX_PAGE_ROWS  # it may be rare
        page = read_results(services.table, spec, cursor, page_rows, RowStatus.FAILED)
        found = page.table.select(_TOLD_OF_ERRORS).to_pylist()
        rows += [row for row in found if code is None or (row["error"] or {}).get("code") == code]
        if page.next_cursor in (None, cursor) or len(rows) >= limit:
            return rows[:limit], page.next_cursor is not None or len(rows) > limit
        cursor = page.next_cursor


@router.get("/v1/jobs/{job_id}/events")
async def follow_events(
    job_id: str,
    request: Request,
    services: TheServices,
    principal: ThePrincipal,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Stream what happens to a job. With Last-Event-ID it goes on where it broke off.

    Without it the job as it stands comes first. A `reset` says that events were missed and
    carries the job as well. Who reads too slowly is cut off with an `error` of the code
    `slow_consumer`, and goes on in the same way.
    """
    await find_job(services, principal, job_id)

    async def look() -> tuple[dict[str, Any], bool]:
        job = await find_job(services, principal, job_id)
        return await show(services, job), job.state.is_final

    return await event_feed(request, services, job_id, last_event_id, look)
