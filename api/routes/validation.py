"""POST /v1/jobs/validate: a dry run. What is asked is what a job would be, and nothing is made."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack

import anyio.to_thread
import redis
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response, StreamingResponse

from ...jobs.dry_run_process import DryRunProcess
from ...jobs.inputs import UnreadableInput
from ...jobs.sources import Source
from ...jobs.workers import WorkerInfo
from ..bodies import MAX_JSON_BYTES, json_body, read_json
from ..creations import ADMITTED
from ..errors import ApiError, InvalidRequest, TooManyRequests
from ..home import require_home
from ..job_schemas import JobRequest
from ..job_wish import source_of, wish_of
from ..principal import Principal, ThePrincipal
from ..refusals import refusal_for
from ..row_uploads import receive_rows, spool_file
from ..services import Services, TheServices
from ..upload import is_multipart
from ..validation_estimate import EarlierJobs, earlier_jobs, estimate
from ..validation_object import progress_object, validation_object, waiting_object
from ..validation_run import ValidationRun
from ..validation_slots import BUSY_RETRY_S
from .job_results import NDJSON
from .jobs import MAX_JOB_JSON_BYTES

LIMIT_S = 600.0  # then it tells what it knows by then
PATIENCE_S = 30.0  # for a turn, of whoever is told nothing meanwhile
_SOON_S = 0.5  # until somebody who reads lines is told that others are before
_TELL_EVERY_S = 10.0

logger = logging.getLogger("penstock.api")

router = APIRouter(tags=["jobs"])


@router.post("/v1/jobs/validate", openapi_extra=json_body(JobRequest), dependencies=[ADMITTED])
async def validate_job(
    request: Request, services: TheServices, principal: ThePrincipal
) -> Response:
    """Look at a job's input without running it: bad lines, repeats, tokens, time.

    With `Accept: application/x-ndjson`, lines tell how far it is before the last one tells all, and
    that it waits behind others. Without, such a wait ends after half a minute with 429.
    """
    require_home(services)
    with ExitStack() as held:
        held.enter_context(services.validations.of(principal.tenant))
        body, source = await _asked(request, services, principal, held)
        wish = await wish_of(request, services, principal, body)
        model = wish.task.model
        process = DryRunProcess(services.settings, source, wish, limit_s=LIMIT_S)
        earlier = await anyio.to_thread.run_sync(
            earlier_jobs, services.settings, services.table, principal.tenant, wish.task
        )
        run = ValidationRun(process, services.validations.threads, held.pop_all(), request.receive)
    try:
        if NDJSON in request.headers.get("accept", ""):
            if await run.turn(_SOON_S):
                await run.begun()  # or what refuses it has a status of its own
            return StreamingResponse(_lines(services, run, earlier, model), media_type=NDJSON)
        if not await run.turn(PATIENCE_S):
            raise TooManyRequests(
                f"others have validated for {PATIENCE_S:g} s, and still do; come again in "
                f"{BUSY_RETRY_S} s, or wait with `Accept: {NDJSON}`",
                code="overloaded",
                retry_after_s=BUSY_RETRY_S,
            )
        report = await run.last()
    except BaseException:
        run.stop()
        raise
    told = estimate(report, earlier, await _workers(services), model)
    return JSONResponse(validation_object(report, model, told))


async def _asked(
    request: Request, services: Services, principal: Principal, held: ExitStack
) -> tuple[JobRequest, Source]:
    """Read a request as one for a job; what it needs is held as long as the dry run lasts."""
    if not is_multipart(request):
        body = await read_json(request, JobRequest, MAX_JOB_JSON_BYTES)
        return body, source_of(services, principal, body)
    body, source = await receive_rows(
        request,
        JobRequest,
        held.enter_context(spool_file(services.settings)),
        max_json_bytes=MAX_JSON_BYTES,
        max_file_bytes=services.settings.max_file_bytes,
    )
    if body.input is not None:
        raise InvalidRequest("the rows come as the part `file`; leave input out", param="input")
    return body, source


async def _lines(
    services: Services, run: ValidationRun, earlier: EarlierJobs, model: str
) -> AsyncIterator[bytes]:
    """Write reports as they come: all but the last in short, or what kept it from coming."""
    try:
        patience_s = 0.0
        while not await run.turn(patience_s):
            yield _line(waiting_object())
            patience_s = _TELL_EVERY_S
        report = None
        async for report in run.reports():
            yield _line(progress_object(report))
        assert report is not None
        told = estimate(report, earlier, await _workers(services), model)
        yield _line(validation_object(report, model, told))
    except (ApiError, UnreadableInput) as error:
        yield _line(refusal_for(error).envelope())
    finally:
        run.stop()


async def _workers(services: Services) -> list[WorkerInfo] | None:
    """Ask for the live workers; None if nobody answers, which shall not cost what was found."""
    try:
        return await services.catalog.workers()
    except redis.RedisError as error:
        logger.warning("a dry run is told without its time: %s", error)
        return None


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
