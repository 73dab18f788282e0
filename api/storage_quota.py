"""Refuses what a tenant has no room for: more than it may store. Knows bytes and tenants, no disk.

Waiting would not help here, so this is no 429: somebody has to delete something first. What is
accepted while there is room is kept, so jobs may reach beyond; their rows then wait (`quotas`).
What is on its way counts only once it is stored: of several that come at the same moment each may
find room that they do not have together. Files are looked at again when they are written; jobs go
beyond by what one such moment brings.
"""

import anyio.to_thread
from starlette.requests import Request

from ..jobs.stored_bytes import Stored
from .errors import StorageQuotaFull
from .principal import Principal
from .services import Services

_TIGHT_AGE_S = 0.5  # whoever goes on trying is not worth a look at the disk each time


async def require_room(
    services: Services, principal: Principal, num_bytes: int = 0, *, is_fresh: bool = False
) -> None:
    """Refuse what would make a tenant store more than it may.

    Args:
        services: whom to ask what it stores.
        principal: the tenant's.
        num_bytes: that are to be added, as far as that is known.
        is_fresh: whether to measure anew, because it was just written.

    Raises:
        StorageQuotaFull: naming what is stored, and what can be deleted.
    """
    limit = services.tenants.get(principal.tenant).max_stored_bytes
    if limit is None:
        return

    def look() -> Stored:
        if is_fresh:
            return services.stored.measure(principal.tenant)
        stored = services.stored.of(principal.tenant)
        is_tight = stored.total >= limit or stored.total + num_bytes > limit
        return services.stored.of(principal.tenant, _TIGHT_AGE_S) if is_tight else stored

    stored = await anyio.to_thread.run_sync(look)
    if stored.total >= limit or stored.total + num_bytes > limit:
        raise StorageQuotaFull(_told(principal.tenant, stored, limit, num_bytes))


def announced_bytes(request: Request) -> int:
    """Return how long a request's body says it is; 0 if it does not say."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdigit() else 0


def _told(tenant: str, stored: Stored, limit: int, num_bytes: int) -> str:
    more = f", and this would add {num_bytes}" if num_bytes else ""
    return (
        f"the tenant {tenant} stores {stored.total} bytes of at most {limit} (max_stored_bytes): "
        f"files {stored.files}, uploads under way {stored.uploads}, jobs {stored.jobs}, runs of "
        f"workflows {stored.runs}{more}. "
        "Delete files (DELETE /v1/files/ID), cancel uploads, or delete jobs that have ended "
        "(DELETE /v1/jobs/ID); waiting does not help"
    )
