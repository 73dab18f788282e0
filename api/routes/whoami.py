"""GET /v1/me: as whom a caller is known here, and what it may do."""

from typing import Any

from fastapi import APIRouter

from ... import __version__
from ..principal import ThePrincipal
from ..services import TheServices

router = APIRouter(tags=["keys"])


@router.get("/v1/me")
async def get_me(services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Tell a caller its tenant and scopes, and where Flower is, if that is known."""
    return {
        "object": "principal",
        "tenant": principal.tenant,
        "scopes": sorted(principal.scopes),
        "key_id": principal.key_id,
        "version": __version__,
        "flower_url": services.settings.flower_url,
    }
