"""GET /v1/workers: who is there, and how busy."""

from typing import Any

import msgspec
from fastapi import APIRouter

from ..services import TheServices

router = APIRouter(tags=["workers"])


@router.get("/v1/workers")
async def list_workers(services: TheServices) -> dict[str, Any]:
    """List the live workers with what they last said about themselves."""
    workers = await services.catalog.workers()
    data = [{"object": "worker", **msgspec.to_builtins(worker)} for worker in workers]
    return {"object": "list", "data": data, "has_more": False}
