"""/v1/batches: OpenAI's face of jobs. What runs them is the clerk; here they are made and shown."""

import time
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request

from ...jobs.batch_record import (
    Batch,
    BatchSpec,
    BatchStatus,
    Checked,
    Ended,
    Usage,
    new_batch_id,
)
from ...jobs.job_limits import read_window
from ..bodies import MAX_JSON_BYTES, json_body, read_json
from ..body_hints import like, one_of
from ..creations import ADMITTED
from ..errors import Conflict, InvalidRequest, shown
from ..generation_schemas import Metadata, ShortText
from ..home import require_home
from ..idempotency_key import idempotency_key_of
from ..job_wish import now_ms
from ..pages import page_of
from ..principal import ThePrincipal
from ..services import Services, TheServices
from ..strict import Strict
from .files import MAX_LIFE_S, MIN_LIFE_S
from .uploads import ExpiresAfter

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
LONGEST_LIST = 100
LONGEST_WINDOW_S = 30 * 24 * 3_600
_SAME_S = 60  # so soon the client's own second try may come

router = APIRouter(tags=["batches"])


class BatchRequest(Strict):
    """The body of POST /v1/batches."""

    input_file_id: str
    """A file of purpose `batch`, with a request on each line."""
    endpoint: Annotated[str, one_of(*ENDPOINTS)]
    """Where every line's request goes."""
    completion_window: Annotated[str, like("[0-9]{1,9}[smhd]")]
    """By when it has to end: a time such as `24h` or `7d`, up to 30 days."""
    metadata: Metadata | None = None
    """Up to 16 labels: keys of up to 64 characters, values of up to 512. They come back with it."""
    output_expires_after: ExpiresAfter | None = None
    """How long the files of results are kept; null keeps them."""
    idempotency_key: ShortText | None = None
    """Of two submissions with the same key only the first makes one, and both are answered with it.
    The header `Idempotency-Key` says the same.
    """


@router.post("/v1/batches", openapi_extra=json_body(BatchRequest), dependencies=[ADMITTED])
async def create_batch(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Accept a batch; its lines are read after the answer has left."""
    body = await read_json(request, BatchRequest, MAX_JSON_BYTES)
    if body.endpoint not in ENDPOINTS:
        message = f"endpoint must be one of {', '.join(ENDPOINTS)}, got {shown(body.endpoint)}"
        raise InvalidRequest(message, param="endpoint")
    life_s = None if body.output_expires_after is None else body.output_expires_after.seconds
    if life_s is not None and not MIN_LIFE_S <= life_s <= MAX_LIFE_S:
        message = f"output_expires_after.seconds must be {MIN_LIFE_S} to {MAX_LIFE_S}, got {life_s}"
        raise InvalidRequest(message, param="output_expires_after.seconds")
    deadline_ms = await _deadline_ms(services, body.completion_window)
    require_home(services)
    files, tenant = services.files, principal.tenant
    stored = await anyio.to_thread.run_sync(files.get, body.input_file_id, tenant)
    if stored.purpose != "batch":
        message = f"the file's purpose must be batch, it is {stored.purpose}"
        raise InvalidRequest(message, param="input_file_id")
    spec = BatchSpec(
        id=new_batch_id(),
        endpoint=body.endpoint,
        input_file_id=stored.id,
        completion_window=body.completion_window,
        deadline_ms=deadline_ms,
        created_at=int(time.time()),
        output_life_s=life_s,
        metadata=body.metadata,
        tenant=tenant,
        idempotency_key=idempotency_key_of(request, body.idempotency_key),
    )
    is_retry = request.headers.get("x-stainless-retry-count", "0") not in ("", "0")
    batch = await anyio.to_thread.run_sync(_create, services, spec, is_retry)
    return await _shown(services, batch)


@router.get("/v1/batches")
async def list_batches(
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[
        int, Query(ge=1, le=LONGEST_LIST, description="How many batches a page has.")
    ] = 20,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
) -> dict[str, Any]:
    """List batches, newest first."""
    found = await anyio.to_thread.run_sync(services.batches.list, principal.tenant)
    page = page_of(
        found,
        after=after,
        limit=limit,
        id_of=lambda batch: batch.spec.id,
        show=lambda batch: {"id": batch.spec.id, "batch": batch},
    )
    return {**page, "data": [await _shown(services, each["batch"]) for each in page["data"]]}


@router.get("/v1/batches/{batch_id}")
async def get_batch(
    batch_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Show how a batch stands."""
    batch = await anyio.to_thread.run_sync(services.batches.get, batch_id, principal.tenant)
    return await _shown(services, batch)


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel_batch(
    batch_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Cancel a batch; what has been answered by then stays, and is rendered."""
    batch = await anyio.to_thread.run_sync(services.batches.get, batch_id, principal.tenant)
    ended = batch.ended()
    if ended is None:
        await anyio.to_thread.run_sync(batch.cancel)
    elif ended.status != "cancelled":
        raise Conflict(f"Cannot cancel a batch with status '{ended.status}'.")
    return await _shown(services, batch)


async def _deadline_ms(services: Services, window: str) -> int:
    now = await now_ms(services)
    deadline_ms = read_window(window, now)
    if deadline_ms - now > LONGEST_WINDOW_S * 1000:
        message = f"completion_window may be at most 30d, got {shown(window)}"
        raise InvalidRequest(message, param="completion_window")
    return deadline_ms


def _create(services: Services, spec: BatchSpec, is_retry: bool) -> Batch:
    """Make the batch, unless the same one has just been made.

    OpenAI's client sends no idempotency key and yet tries again; it does say that it does.
    """
    if spec.idempotency_key is None and is_retry:
        for batch in services.batches.list(spec.tenant):
            if spec.created_at - batch.spec.created_at > _SAME_S:
                break
            if _asked(batch.spec) == _asked(spec):
                return batch
    made = services.batches.create(spec)
    if _asked(made.spec) != _asked(spec):
        raise InvalidRequest(
            f"the idempotency key has made {made.spec.id}, another batch; take a new key",
            param="idempotency_key",
            code="idempotency_key_reused",
        )
    return made


def _asked(spec: BatchSpec) -> tuple[object, ...]:
    return spec.input_file_id, spec.endpoint, spec.completion_window, spec.metadata


async def _shown(services: Services, batch: Batch) -> dict[str, Any]:
    return await anyio.to_thread.run_sync(_batch_object, services, batch)


def _batch_object(services: Services, batch: Batch) -> dict[str, Any]:
    """Return OpenAI's object for a batch."""
    spec = batch.spec
    ended, checked, cancelling_at = batch.ended(), batch.checked(), batch.cancelling_at()
    times = _times(ended, checked, cancelling_at)
    errors = [*(checked.errors if checked else ()), *(ended.errors if ended else ())]
    completed, failed, usage = _progress(services, ended, checked)
    return {
        "id": spec.id,
        "object": "batch",
        "endpoint": spec.endpoint,
        "model": None,
        "errors": {
            "object": "list",
            "data": [
                {"code": e.code, "line": e.line, "message": e.message, "param": e.param}
                for e in errors
            ],
        }
        if errors
        else None,
        "input_file_id": spec.input_file_id,
        "completion_window": spec.completion_window,
        "status": _status(ended, checked, cancelling_at),
        "output_file_id": ended.output_file_id if ended is not None else None,
        "error_file_id": ended.error_file_id if ended is not None else None,
        "created_at": spec.created_at,
        "expires_at": spec.deadline_ms // 1000,
        **times,
        "request_counts": {
            "total": checked.num_rows if checked is not None else 0,
            "completed": completed,
            "failed": failed,
        },
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
        "metadata": spec.metadata,
        "penstock": {
            "job_ids": checked.jobs if checked is not None else [],
            "status_reason": _reason(services, checked) if ended is None else None,
        },
    }


def _status(ended: Ended | None, checked: Checked | None, cancelling_at: int | None) -> BatchStatus:
    if ended is not None:
        return ended.status
    if cancelling_at is not None:
        return BatchStatus.CANCELLING
    return BatchStatus.VALIDATING if checked is None else BatchStatus.IN_PROGRESS


def _times(
    ended: Ended | None, checked: Checked | None, cancelling_at: int | None
) -> dict[str, int | None]:
    is_valid = checked is not None and not checked.errors
    times: dict[str, int | None] = {
        "in_progress_at": checked.at if checked is not None and is_valid else None,
        "finalizing_at": ended.finalizing_at if ended is not None else None,
        "cancelling_at": cancelling_at,
    }
    for status in ("completed", "failed", "expired", "cancelled"):
        is_so = ended is not None and ended.status.value == status
        times[f"{status}_at"] = ended.at if ended is not None and is_so else None
    return times


def _reason(services: Services, checked: Checked | None) -> str | None:
    """Say what holds a batch up, if anything does: the first of its jobs that has a reason."""
    found = services.table.snapshots(checked.jobs if checked is not None else [])
    jobs = [job for job in found if job is not None]
    reasons = (job.status_reason or services.quotas.reason(job) for job in jobs)
    return next((reason for reason in reasons if reason is not None), None)


def _progress(
    services: Services, ended: Ended | None, checked: Checked | None
) -> tuple[int, int, Usage]:
    """Return how many rows have been answered and have failed, and their tokens."""
    if ended is not None:
        return ended.completed, ended.failed, ended.usage
    found = [services.table.snapshot(job_id) for job_id in (checked.jobs if checked else ())]
    jobs = [job for job in found if job is not None]
    usage = Usage(
        sum(job.prompt_tokens for job in jobs),
        sum(job.completion_tokens for job in jobs),
        sum(job.cached_tokens for job in jobs),
    )
    completed = sum(job.counts.succeeded for job in jobs)
    return completed, sum(job.counts.failed for job in jobs), usage
