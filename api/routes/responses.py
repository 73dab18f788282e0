"""OpenAI's /v1/responses: text in, text out, whole, streamed or in the background.

A response is kept for a while, in this process (see `response_book`), so that it can be retrieved.
"""

from collections.abc import AsyncGenerator

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from ...jobs.frames import InteractiveRequest
from ...jobs.model import SamplingParams
from ..answer import CLIENT_GONE_STATUS, check_fits, new_answer_id, stream_slot
from ..bodies import MAX_PROMPT_BYTES, json_body, read_json
from ..errors import Unavailable, UnsupportedParameter
from ..generation import ClientGone, Generation, unless_gone
from ..principal import ThePrincipal, principal_of
from ..refusals import TRANSLATED, refusal_for
from ..response_book import MAX_RUNNING
from ..response_object import EventTeller, ResponseDraft
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
    try:
        give_back = await stream_slot(request, services, is_wanted=bool(body.stream))
    except ClientGone:
        return Response(status_code=CLIENT_GONE_STATUS)
    try:
        generation = await _generation(request, services, body)
    except BaseException:
        give_back()
        raise
    draft = ResponseDraft(body)
    if body.background:
        kept = services.responses.start(principal.tenant, draft, _complete(generation, draft))
        if kept is None:
            message = f"{MAX_RUNNING} responses are under way in the background already"
            raise Unavailable(message, code="too_many_responses")
        return _json(kept)

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
    return _json(services.responses.get(response_id, principal.tenant))


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(
    response_id: str, services: TheServices, principal: ThePrincipal
) -> Response:
    """Stop a response in the background; one that has ended stays as it is."""
    return _json(await services.responses.cancel(response_id, principal.tenant))


@router.delete("/v1/responses/{response_id}")
async def delete_response(
    response_id: str, services: TheServices, principal: ThePrincipal
) -> Response:
    """Forget a response."""
    await services.responses.delete(response_id, principal.tenant)
    gone = {"id": response_id, "object": "response", "deleted": True}
    return _json(msgspec.json.encode(gone))


async def _generation(request: Request, services: Services, body: ResponsesRequest) -> Generation:
    watch = Stopwatch(services.meters, services.chats, body.model, request.scope)
    sampling = SamplingParams.from_mapping(body.sampling())
    await check_fits(services, body.model, sampling, num_prompts=1)
    asked = InteractiveRequest(
        request_id=new_answer_id("gen"),
        model=body.model,
        messages=body.messages(),
        sampling=sampling.to_mapping(),
        cache_salt=principal_of(request.scope).tenant,
    )
    return Generation(services.line, services.lane, [asked], 1, watch)


async def _gather(generation: Generation, draft: ResponseDraft) -> None:
    draft.begin()
    async for part in generation:
        draft.add(part)
    draft.end(generation.usage)


async def _complete(generation: Generation, draft: ResponseDraft) -> None:
    """Complete a draft; what goes wrong is told in it."""
    try:
        await _gather(generation, draft)
    except Exception as error:
        draft.fail(refusal_for(error))
        if not isinstance(error, TRANSLATED):
            raise
    finally:
        await generation.aclose()


async def _frames(generation: Generation, draft: ResponseDraft) -> AsyncGenerator[bytes, None]:
    """Yield the stream's frames; one that breaks ends with `response.failed`."""
    teller = EventTeller(draft)
    draft.begin()
    for told in teller.begin():
        yield told
    try:
        async for part in generation:
            draft.add(part)
            if part.delta.text:
                yield teller.delta(part.delta.text)
    except Exception as error:
        draft.fail(refusal_for(error))
        yield teller.last()
        return
    draft.end(generation.usage)
    for told in teller.end():
        yield told


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
