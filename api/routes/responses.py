"""OpenAI's /v1/responses: text and tools in, text and calls out; whole, streamed, or in background.

What was answered at once is kept for a while, in this process (see `response_book`), so that it can
be retrieved. What runs in the background is a job, and outlives every process.
"""

from collections.abc import AsyncGenerator
from functools import partial

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from ...jobs.frames import InteractiveRequest
from ...jobs.model import SamplingParams
from ..answer import CLIENT_GONE_STATUS, check_fits, new_answer_id, stream_slot
from ..background_responses import is_background
from ..bodies import MAX_PROMPT_BYTES, json_body, read_json
from ..creations import admit_creation
from ..errors import UnsupportedParameter
from ..generation import ClientGone, Generation, unless_gone
from ..home import require_home
from ..idempotency_key import idempotency_key_of
from ..job_wish import priority_for
from ..principal import Principal, ThePrincipal, principal_of
from ..refusals import refusal_for
from ..response_events import EventTeller
from ..response_object import ResponseDraft
from ..response_schemas import ResponsesRequest
from ..services import Services, TheServices
from ..sse import EventStream
from ..stopwatch import Stopwatch

router = APIRouter(tags=["generation"])


@router.post("/v1/responses", openapi_extra=json_body(ResponsesRequest))
async def create_response(
    request: Request, services: TheServices, principal: ThePrincipal
) -> Response:
    """Answer a text or a conversation."""
    body = await read_json(request, ResponsesRequest, MAX_PROMPT_BYTES)
    if body.background:
        return await _in_the_background(request, services, principal, body)
    try:
        give_back = await stream_slot(request, services, is_wanted=bool(body.stream))
    except ClientGone:
        return Response(status_code=CLIENT_GONE_STATUS)
    try:
        generation = await _generation(request, services, body)
    except BaseException:
        give_back()
        raise
    draft = ResponseDraft.of(body)

    async def close() -> None:
        give_back()
        await generation.aclose()
        if body.store is not False and draft.status.is_final:
            services.responses.keep(principal.tenant, draft)

    try:
        await unless_gone(request, generation.wait_for_first())
        if body.stream:
            return EventStream(_frames(generation, draft), on_close=close)
        await unless_gone(request, _gather(generation, draft))
    except ClientGone:
        await close()
        return Response(status_code=CLIENT_GONE_STATUS)
    except BaseException:
        await close()
        raise
    await close()
    return _json(msgspec.json.encode(draft.to_object()))


@router.get("/v1/responses/{response_id}")
async def retrieve_response(
    response_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> Response:
    """Return a response as it is now."""
    if request.query_params.get("stream", "false") != "false":
        message = "a response that is retrieved is not streamed; ask again until it has ended"
        raise UnsupportedParameter(message, param="stream")
    if is_background(response_id):
        get = services.background.get
        return _json(await anyio.to_thread.run_sync(get, response_id, principal.tenant))
    return _json(services.responses.get(response_id, principal.tenant))


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(
    response_id: str, services: TheServices, principal: ThePrincipal
) -> Response:
    """Stop a response in the background; one that has ended stays as it is."""
    if is_background(response_id):
        cancel = services.background.cancel
        return _json(await anyio.to_thread.run_sync(cancel, response_id, principal.tenant))
    return _json(services.responses.get(response_id, principal.tenant))


@router.delete("/v1/responses/{response_id}")
async def delete_response(
    response_id: str, services: TheServices, principal: ThePrincipal
) -> Response:
    """Forget a response."""
    if is_background(response_id):
        require_home(services)
        delete = services.background.delete
        await anyio.to_thread.run_sync(delete, response_id, principal.tenant)
        services.stored.freed(principal.tenant)
    else:
        services.responses.delete(response_id, principal.tenant)
    gone = {"id": response_id, "object": "response", "deleted": True}
    return _json(msgspec.json.encode(gone))


async def _in_the_background(
    request: Request, services: Services, principal: Principal, body: ResponsesRequest
) -> Response:
    """Make a job of it; what can be said against it at once is said."""
    require_home(services)
    await admit_creation(request, services, principal)
    key = idempotency_key_of(request, None)
    body.tool_use()
    sampling = SamplingParams.from_mapping(body.sampling())
    await check_fits(services, body.model, sampling, num_prompts=1)
    await services.catalog.require(body.model)
    priority = priority_for(services, principal, None)
    start = partial(services.background.start, principal.tenant, body, priority=priority, key=key)
    begun = await anyio.to_thread.run_sync(start, limiter=services.submissions)
    if begun.created:
        services.meters.count_job(body.model)
    return _json(begun.shown)


async def _generation(request: Request, services: Services, body: ResponsesRequest) -> Generation:
    watch = Stopwatch(services.meters, services.chats, body.model, request.scope)
    sampling = SamplingParams.from_mapping(body.sampling())
    await check_fits(services, body.model, sampling, num_prompts=1)
    asked = InteractiveRequest(
        request_id=new_answer_id("gen"),
        model=body.model,
        messages=body.messages(),
        tools=body.tool_use(),
        sampling=sampling.to_mapping(),
        cache_salt=principal_of(request.scope).tenant,
    )
    return Generation(services.line, services.lane, [asked], 1, watch, form_param="text.format")


async def _gather(generation: Generation, draft: ResponseDraft) -> None:
    async for part in generation:
        draft.add(part)
    draft.end(generation.usage)


async def _frames(generation: Generation, draft: ResponseDraft) -> AsyncGenerator[bytes, None]:
    """Yield the stream's frames; one that breaks ends with `response.failed`."""
    teller = EventTeller(draft)
    for told in teller.begin():
        yield told
    try:
        async for part in generation:
            draft.add(part)
            for told in teller.news():
                yield told
    except Exception as error:
        draft.fail(refusal_for(error))
        yield teller.last()
        return
    draft.end(generation.usage)
    for told in teller.end():
        yield told


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
