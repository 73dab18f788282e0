"""What makes something that lasts passes here first: at its tenant's rate, and where there is room.

A route says itself that it makes something, by one of these dependencies; both are asked before a
body is read. Knows gates and room, no route.
"""

from fastapi import Depends, Request

from .principal import Principal, ThePrincipal
from .services import Services, TheServices
from .storage_quota import announced_bytes, require_room


async def count_creation(services: TheServices, principal: ThePrincipal) -> None:
    """Count a thing that is made.

    Raises:
        TooManyRequests: the tenant has made as many as it may in a minute.
    """
    refusal = services.gates.creation_refusal(principal.tenant)
    if refusal is not None:
        raise refusal


async def admit_creation(request: Request, services: Services, principal: Principal) -> None:
    """Count a thing that is made, and refuse it where the tenant has no room for it.

    Raises:
        TooManyRequests: see `count_creation`.
        StorageQuotaFull: see `require_room`.
    """
    await count_creation(services, principal)
    await require_room(services, principal, announced_bytes(request))


async def _admit(request: Request, services: TheServices, principal: ThePrincipal) -> None:
    await admit_creation(request, services, principal)


COUNTED = Depends(count_creation)
ADMITTED = Depends(_admit)
