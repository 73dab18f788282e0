"""GET /v1/usage: what a tenant's jobs and its interactive requests have used."""

import time
from dataclasses import asdict, fields
from typing import Annotated, Any

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Query

from ...jobs.api_keys import Scope
from ...jobs.removed_usage import removed_jobs
from ...jobs.tenants import DEFAULT_TENANT, Tenant
from ...jobs.usage import Usage, used
from ..errors import InvalidRequest
from ..principal import ThePrincipal
from ..services import Services, TheServices
from .keys import limits_of

_Moment = Annotated[int | None, Query(ge=0, le=2**40)]
Start = Annotated[_Moment, Query(description="In seconds since 1970; left out, the very first.")]
End = Annotated[_Moment, Query(description="In seconds since 1970; left out, now.")]

router = APIRouter(tags=["usage"])


@router.get("/v1/usage")
async def get_usage(
    services: TheServices,
    principal: ThePrincipal,
    start_time: Start = None,
    end_time: End = None,
    all_tenants: Annotated[bool, Query(description="Every tenant's, for admins.")] = False,
) -> dict[str, Any]:
    """Add up, by model, the jobs that were made in a span of time, and the requests of its days.

    A day is UTC's, and counts if it begins in the span; so do days of jobs that were removed long
    ago, which are added up. Admins may ask for all tenants.
    """
    start_s = start_time or 0
    end_s = int(time.time()) + 1 if end_time is None else end_time
    if start_s > end_s:
        raise InvalidRequest("start_time must not be after end_time", param="start_time")
    if all_tenants:
        principal.require(Scope.ADMIN, "the usage of all tenants (all_tenants)")

    def work() -> list[dict[str, Any]]:
        names = _all(services) if all_tenants else [principal.tenant]
        return [_usage_object(services, name, start_s, end_s) for name in names]

    return {"object": "list", "data": await anyio.to_thread.run_sync(work), "has_more": False}


def _all(services: Services) -> list[str]:
    """Name every tenant that somebody has spoken of."""
    named = {tenant.name for tenant in services.tenants.list()}
    return sorted(named | {key.tenant for key in services.keys.list()} | {DEFAULT_TENANT})


def _usage_object(services: Services, name: str, start_s: int, end_s: int) -> dict[str, Any]:
    tenant = services.tenants.get(name)
    removed = removed_jobs(services.settings, name)
    by_model = used(services.table, name, start_s * 1000, end_s * 1000, removed)
    total = {
        each.name: sum(getattr(usage, each.name) for usage in by_model.values())
        for each in fields(Usage)
    }
    return {
        "object": "usage",
        "tenant": name,
        "start_time": start_s,
        "end_time": end_s,
        **total,
        "by_model": {model: asdict(usage) for model, usage in sorted(by_model.items())},
        "interactive": {
            model: msgspec.to_builtins(tokens)
            for model, tokens in sorted(services.chats.used(name, start_s, end_s).items())
        },
        "limits": limits_of(tenant),
        "in_use": _in_use(services, tenant),
    }


def _in_use(services: Services, tenant: Tenant) -> dict[str, Any]:
    """Return what stands against the limits now; requests and streams are this process's.

    What is stored is measured only where it is limited: that may mean many files to look at.
    """
    name, load, gates = tenant.name, services.quotas.load(tenant.name), services.gates
    is_limited = tenant.max_stored_bytes is not None
    return {
        "max_rows": load.rows,
        "max_queued_tokens": round(load.tokens),
        "max_stored_bytes": load.stored_bytes if is_limited else None,
        "max_streams": services.streams.num_open(name),
        "requests_per_minute": gates.requests.used(name, tenant.requests_per_minute),
        "creates_per_minute": gates.creates.used(name, tenant.creates_per_minute),
        "stored_bytes": asdict(services.stored.of(name)) if is_limited else None,
    }
