"""GET /v1/queues: what waits for which model, and for whom. For admins."""

from typing import Any

import anyio.to_thread
from fastapi import APIRouter

from ...jobs.usage import Line, waiting
from ..services import Services, TheServices
from .keys import limits_of

router = APIRouter(tags=["queues"])


@router.get("/v1/queues")
async def list_queues(services: TheServices) -> dict[str, Any]:
    """List a queue for every model that is served or waited for; beside them, who waits."""
    workers = await services.catalog.served()
    look = await anyio.to_thread.run_sync(waiting, services.table)
    queued = await anyio.to_thread.run_sync(services.table.agenda.queued)
    models, tenants = look
    data = [
        {
            "id": model,
            "object": "queue",
            "model": model,
            "workers": len(workers.get(model, ())),
            "slots": sum(each.slots for each in workers.get(model, ())),
            "queued_shards": queued.get(model, 0),
            **_line(models.get(model, Line())),
        }
        for model in sorted({*workers, *models})
    ]
    who = [_tenant(services, name, line) for name, line in sorted(tenants.items())]
    return {"object": "list", "data": data, "tenants": who, "has_more": False}


def _tenant(services: Services, name: str, line: Line) -> dict[str, Any]:
    return {"tenant": name, **_line(line), "limits": limits_of(services.tenants.get(name))}


def _line(line: Line) -> dict[str, Any]:
    return {
        "jobs": {state.value: count for state, count in sorted(line.jobs.items())},
        "waiting_rows": line.waiting_rows,
        "running_rows": line.running_rows,
    }
