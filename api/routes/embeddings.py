"""POST /v1/embeddings: the vectors of texts or token ids, as OpenAI's clients expect them."""

import base64

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from ...jobs.frames import Embed, InteractiveRequest
from ...jobs.vectors import unpack
from ..answer import CLIENT_GONE_STATUS, new_answer_id
from ..bodies import MAX_PROMPT_BYTES, json_body, read_json
from ..embedding import embed_all
from ..embedding_schemas import EmbeddingRequest
from ..generation import ClientGone, unless_gone
from ..principal import ThePrincipal
from ..services import TheServices
from ..stopwatch import Stopwatch

router = APIRouter(tags=["generation"])


@router.post("/v1/embeddings", openapi_extra=json_body(EmbeddingRequest))
async def create_embeddings(
    request: Request, services: TheServices, principal: ThePrincipal
) -> Response:
    """Give each input its vector, of length 1."""
    body = await read_json(request, EmbeddingRequest, MAX_PROMPT_BYTES)
    watch = Stopwatch(services.meters, services.chats, body.model, request.scope)
    await services.catalog.require(body.model)
    requests = [
        InteractiveRequest(
            request_id=new_answer_id("embd"),
            model=body.model,
            prompt=item if isinstance(item, str) else None,
            token_ids=None if isinstance(item, str) else item,
            embed=Embed(body.dimensions),
            cache_salt=principal.tenant,
            version=2,
        )
        for item in body.input
    ]
    try:
        work = embed_all(services.line, services.lane, requests, watch)
        embedded = await unless_gone(request, work)
    except ClientGone:
        return Response(status_code=CLIENT_GONE_STATUS)
    num_tokens = embedded.prompt_tokens
    answer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _shown(vector, body)}
            for index, vector in enumerate(embedded.vectors)
        ],
        "model": body.model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _shown(vector: bytes, body: EmbeddingRequest) -> str | list[float]:
    if body.encoding_format == "base64":
        return base64.b64encode(vector).decode()
    return unpack(vector)
