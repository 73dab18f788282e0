"""GET /v1/models and GET /v1/models/{id}; an id may hold slashes."""

from typing import Any

from fastapi import APIRouter

from ...jobs.workers import WorkerInfo
from ..services import TheServices

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def list_models(services: TheServices) -> dict[str, Any]:
    """List the models that jobs and chats may name."""
    served = await services.catalog.served()
    data = [_model_object(model, workers) for model, workers in served.items()]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/v1/models/{model:path}")
async def get_model(model: str, services: TheServices) -> dict[str, Any]:
    """Show one model."""
    return _model_object(model, await services.catalog.require(model))


def _model_object(model: str, workers: list[WorkerInfo]) -> dict[str, Any]:
    lengths = [each.max_model_len for each in workers if each.max_model_len is not None]
    return {
        "id": model,
        "object": "model",
        "created": min((each.started_at_ms for each in workers), default=0) // 1000,
        "owned_by": "penstock",
        "max_model_len": max(lengths, default=None),
        "workers": len(workers),
    }
