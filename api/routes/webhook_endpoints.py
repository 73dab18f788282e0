"""/v1/webhook_endpoints: who is told of events, and what was told so far."""

import asyncio
import http.client
import time
from concurrent.futures import Future
from typing import Annotated, Any

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from ...jobs.public_address import check_url
from ...jobs.webhook_delivery import Delivery
from ...jobs.webhook_endpoints import (
    EVENT_TYPES,
    MAX_ENDPOINTS,
    Endpoint,
    EventType,
    new_secret,
)
from ..answer import CLIENT_GONE_STATUS
from ..bodies import MAX_JSON_BYTES, json_body, read_json, read_optional_json
from ..creations import COUNTED
from ..errors import InvalidRequest, TooManyRequests
from ..generation import ClientGone, unless_gone
from ..pages import list_of, page_of
from ..principal import ThePrincipal
from ..services import TheServices
from ..strict import Strict

router = APIRouter(tags=["webhooks"])

Name = Annotated[str, Field(min_length=1, max_length=256)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]


class EndpointRequest(Strict):
    """The body of POST /v1/webhook_endpoints."""

    name: Name
    """What people call it."""
    url: str
    """Where events are sent: an https address of the Internet, or one that the server allows."""
    event_types: EventTypes
    """Of which events it is told; `/v1/webhook_event_types` lists them."""


class EndpointChange(Strict):
    """The body of POST /v1/webhook_endpoints/{id}: what is to be another way."""

    name: Name | None = None
    """Another name; null leaves it."""
    url: str | None = None
    """Another address; null leaves it."""
    event_types: EventTypes | None = None
    """Other events, in place of all that there are; null leaves them."""


class Rotation(Strict):
    """The body of POST /v1/webhook_endpoints/{id}/rotate_secret, which may be left out."""

    keep_old_secret_active_for_24_hours: bool | None = None
    """Whether the old secret signs beside the new one for a day; null means false."""


class Sample(Strict):
    """The body of POST /v1/webhook_endpoints/{id}/test: which kind of event to send."""

    event_type: EventType
    """Which kind of event to send a sample of."""


@router.get("/v1/webhook_event_types")
async def list_event_types() -> dict[str, Any]:
    """List what endpoints may ask to be told of."""
    return {"object": "list", "data": EVENT_TYPES}


@router.post(
    "/v1/webhook_endpoints", openapi_extra=json_body(EndpointRequest), dependencies=[COUNTED]
)
async def create_endpoint(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Make an endpoint; only this answer, and that to a rotation, tells its secret."""
    body = await read_json(request, EndpointRequest, MAX_JSON_BYTES)
    check_url(body.url, services.settings.webhook_hosts)
    found = await anyio.to_thread.run_sync(services.endpoints.list, principal.tenant)
    if len(found) >= MAX_ENDPOINTS:
        raise InvalidRequest(f"there may be at most {MAX_ENDPOINTS} webhook endpoints")
    endpoint = await anyio.to_thread.run_sync(
        lambda: services.endpoints.create(
            name=body.name,
            url=body.url,
            event_types=sorted(set(body.event_types)),
            tenant=principal.tenant,
        )
    )
    return {**endpoint_object(endpoint), "signing_secret": endpoint.secret}


@router.get("/v1/webhook_endpoints")
async def list_endpoints(
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[int, Query(ge=1, le=100, description="How many endpoints a page has.")] = 20,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
) -> dict[str, Any]:
    """List endpoints, newest first."""
    found = await anyio.to_thread.run_sync(services.endpoints.list, principal.tenant)
    return page_of(
        found, after=after, limit=limit, id_of=lambda each: each.id, show=endpoint_object
    )


@router.get("/v1/webhook_endpoints/{endpoint_id}")
async def get_endpoint(
    endpoint_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Show an endpoint."""
    return endpoint_object(services.endpoints.get(endpoint_id, principal.tenant))


@router.post("/v1/webhook_endpoints/{endpoint_id}", openapi_extra=json_body(EndpointChange))
async def change_endpoint(
    endpoint_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Change an endpoint; what is not named stays."""
    body = await read_json(request, EndpointChange, MAX_JSON_BYTES)
    if body.url is not None:
        check_url(body.url, services.settings.webhook_hosts)
    changes = body.model_dump(exclude_none=True)
    endpoint = services.endpoints.get(endpoint_id, principal.tenant)
    return endpoint_object(await _put(services, endpoint, changes))


@router.post(
    "/v1/webhook_endpoints/{endpoint_id}/rotate_secret",
    openapi_extra=json_body(Rotation, is_required=False),
)
async def rotate_secret(
    endpoint_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Sign with another secret from now on; for a day with both, if that is wished."""
    body = await read_optional_json(request, Rotation, MAX_JSON_BYTES)
    endpoint = services.endpoints.get(endpoint_id, principal.tenant)
    keeps_old = bool(body.keep_old_secret_active_for_24_hours)
    changes = {
        "secret": new_secret(),
        "old_secret": endpoint.secret if keeps_old else None,
        "old_secret_until": int(time.time()) + 86_400 if keeps_old else 0,
    }
    changed = await _put(services, endpoint, changes)
    return {**endpoint_object(changed), "signing_secret": changed.secret}


@router.post(
    "/v1/webhook_endpoints/{endpoint_id}/test",
    openapi_extra=json_body(Sample),
    dependencies=[COUNTED],
)
async def try_endpoint(
    endpoint_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> Response:
    """Send an endpoint one sample of an event, and tell what it answered; one at a time."""
    body = await read_json(request, Sample, MAX_JSON_BYTES)
    endpoint = services.endpoints.get(endpoint_id, principal.tenant)
    sent = services.outbox.send_sample(endpoint, body.event_type)
    if sent is None:
        raise TooManyRequests(
            f"another sample of the tenant {principal.tenant} is on its way; come again when it "
            "has been answered",
            retry_after_s=1,
        )
    try:
        status_code = await unless_gone(request, _answer(sent))
    except ClientGone:
        return Response(status_code=CLIENT_GONE_STATUS)
    except (OSError, http.client.HTTPException) as fault:
        message = f"the endpoint does not answer: {type(fault).__name__}: {fault}"[:300]
        raise InvalidRequest(message, param="url", code="endpoint_unreachable") from None
    told = {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint.id,
        "event_type": body.event_type,
        "status_code": status_code,
        "success": True,  # it was sent; whether it was liked tells the status
    }
    return JSONResponse(told)


@router.delete("/v1/webhook_endpoints/{endpoint_id}")
async def delete_endpoint(
    endpoint_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Remove an endpoint."""
    await anyio.to_thread.run_sync(services.endpoints.delete, endpoint_id, principal.tenant)
    return {"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}


@router.get("/v1/webhook_endpoints/{endpoint_id}/deliveries")
async def list_deliveries(
    endpoint_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """List what is on its way to an endpoint, or was in the last week; newest first."""
    endpoint = services.endpoints.get(endpoint_id, principal.tenant)
    found = await anyio.to_thread.run_sync(services.outbox.deliveries, endpoint.id)
    return list_of([delivery_object(each) for each in found], has_more=False)


def endpoint_object(endpoint: Endpoint) -> dict[str, Any]:
    """Return OpenAI's object for an endpoint."""
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "signing_secret_hint": endpoint.secret_hint,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }


def delivery_object(delivery: Delivery) -> dict[str, Any]:
    """Return our object for a delivery."""
    shown = msgspec.to_builtins(delivery)
    return {"object": "webhook_delivery", **{k: v for k, v in shown.items() if k != "body"}}


async def _answer(sent: "Future[int]") -> int:
    return await asyncio.wrap_future(sent)


async def _put(services: TheServices, endpoint: Endpoint, changes: dict[str, Any]) -> Endpoint:
    changed = msgspec.structs.replace(endpoint, **changes)
    if changed != endpoint:
        changed = msgspec.structs.replace(changed, updated_at=int(time.time()))
        await anyio.to_thread.run_sync(services.endpoints.put, changed)
    return changed
