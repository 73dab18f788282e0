"""/v1/keys: make, list and revoke API keys. For admins; `penstock keys` does the same on disk."""

from typing import Annotated, Any, Literal, cast

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from pydantic import Field

from ...jobs.api_keys import ApiKey, Scope, UnknownKey
from ...jobs.tenants import InvalidTenant, Tenant, TenantLimits
from ..bodies import json_body, read_json
from ..body_hints import like
from ..errors import InvalidRequest, NotFound, shown
from ..generation_schemas import ShortText
from ..pages import page_of
from ..services import TheServices
from ..strict import Strict

MAX_BODY_BYTES = 16 << 10
LONGEST_LIST = 100
_LIMITS = tuple(TenantLimits.__annotations__)

Limit = Annotated[int, Field(ge=1, le=2**53)]

router = APIRouter(tags=["keys"])


class KeyRequest(Strict):
    """The body of POST /v1/keys: a key, and what its tenant may have, if that is to change."""

    tenant: Annotated[str, like("[a-z0-9][a-z0-9_-]{0,62}")]
    """For whom the key is; a tenant comes into being with its first key."""
    scopes: list[Literal["read", "submit", "admin"]] = Field(
        default_factory=lambda: ["read", "submit"]
    )
    """What the key may do: look (`read`), make and change (`submit`), or all of it for any tenant
    (`admin`).
    """
    name: ShortText | None = None
    """What people call the key."""
    weight: float | None = None
    """The tenant's share of the engines against the others', above 0; null leaves it, 1 at first.
    """
    priority_ceiling: int | None = Field(None, ge=-(2**31), lt=2**31)
    """The highest priority that its jobs may have; null for any, left out it stays."""
    max_rows: Limit | None = None
    """How many of its rows may be queued or running, more wait; null for any number, left out it
    stays.
    """
    max_queued_tokens: Limit | None = None
    """How many tokens those may be expected to take; null for any number, left out it stays."""
    max_stored_bytes: Limit | None = None
    """How many bytes its files, uploads, inputs and results may have; null for any number, left out
    it stays.
    """
    max_streams: Limit | None = None
    """How many streams each of its keys may have open at one API process; null for any number, left
    out it stays.
    """
    requests_per_minute: Limit | None = None
    """How many requests one API process takes from it; null for any number, left out it stays."""
    creates_per_minute: Limit | None = None
    """How many of those may make a job, a batch or a file; null for any number, left out it stays.
    """

    def limits(self) -> TenantLimits:
        """Return what is said of the tenant; null takes a limit away, but no weight."""
        said = {name for name in _LIMITS if name in self.model_fields_set}
        if self.weight is None:
            said.discard("weight")
        return cast("TenantLimits", {name: getattr(self, name) for name in said})


@router.post("/v1/keys", status_code=201, openapi_extra=json_body(KeyRequest))
async def create_key(request: Request, services: TheServices) -> dict[str, Any]:
    """Make a key. The answer holds the key itself, which is shown this once."""
    body = await read_json(request, KeyRequest, MAX_BODY_BYTES)
    if not body.scopes:
        raise InvalidRequest("scopes must name at least one scope", param="scopes")

    scopes = [Scope(each) for each in body.scopes]

    def work() -> tuple[Tenant, ApiKey, str]:
        tenant = services.tenants.change(body.tenant, body.limits())
        return tenant, *services.keys.create(body.tenant, scopes, body.name)

    try:
        tenant, made, key = await anyio.to_thread.run_sync(work)
    except InvalidTenant as error:
        raise InvalidRequest(str(error), param=error.param) from error
    return {**key_object(made, tenant), "key": key}


@router.get("/v1/keys")
async def list_keys(
    services: TheServices,
    limit: Annotated[
        int, Query(ge=1, le=LONGEST_LIST, description="How many keys a page has.")
    ] = 20,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
) -> dict[str, Any]:
    """List keys, oldest first, the revoked ones too; never the keys themselves."""
    return page_of(
        await anyio.to_thread.run_sync(services.keys.list),
        after=after,
        limit=limit,
        id_of=lambda key: key.id,
        show=lambda key: key_object(key, services.tenants.get(key.tenant)),
    )


@router.delete("/v1/keys/{key_id}")
async def revoke_key(key_id: str, services: TheServices) -> dict[str, Any]:
    """Put a key out of force, everywhere within a second."""
    try:
        revoked = await anyio.to_thread.run_sync(services.keys.revoke, key_id)
    except UnknownKey as error:
        raise NotFound(f"there is no key {shown(key_id)}", param="key_id") from error
    return key_object(revoked, services.tenants.get(revoked.tenant))


def key_object(key: ApiKey, tenant: Tenant) -> dict[str, Any]:
    """Return what may be seen of a key, beside what its tenant may have."""
    return {
        "id": key.id,
        "object": "api_key",
        "name": key.name,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "limits": limits_of(tenant),
    }


def limits_of(tenant: Tenant) -> dict[str, Any]:
    """Return what a tenant may have, as clients see it."""
    return {name: getattr(tenant, name) for name in _LIMITS}
