"""/v1/workflows: specifications, kept by name, and checked before a token is spent.

What runs of them do: see workflow_runs; what a few rows tell beforehand: workflow_trials.
"""

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request

from ...jobs.workflow.schema import workflow_schema
from ..bodies import MAX_JSON_BYTES, json_body, read_json
from ..creations import ADMITTED
from ..home import require_home
from ..pages import list_of
from ..principal import ThePrincipal
from ..services import TheServices
from ..workflow_check import check_object
from ..workflow_requests import checked, store_of
from ..workflow_schemas import CheckRequest, StoreRequest
from .jobs import MAX_JOB_JSON_BYTES

router = APIRouter(tags=["workflows"])


@router.post(
    "/v1/workflows",
    status_code=201,
    openapi_extra=json_body(StoreRequest),
    dependencies=[ADMITTED],
)
async def store_workflow(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Keep a specification under its name; a change of it becomes its next version."""
    body = await read_json(request, StoreRequest, MAX_JSON_BYTES)
    require_home(services)
    await checked(services, principal, CheckRequest(workflow=body.workflow))
    put = store_of(services).put
    stored = await anyio.to_thread.run_sync(put, principal.tenant, body.workflow)
    return stored.shown()


@router.get("/v1/workflows")
async def list_workflows(services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """List the newest version of each workflow, by name."""
    found = await anyio.to_thread.run_sync(store_of(services).list, principal.tenant)
    return list_of([each.shown() for each in found], has_more=False)


@router.get("/v1/workflows/schema")
async def get_schema() -> dict[str, Any]:
    """Return the JSON Schema of specifications."""
    return workflow_schema()


@router.post("/v1/workflows/validate", openapi_extra=json_body(CheckRequest))
async def validate_workflow(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Check a workflow, with the first rows of the inputs that are given; all problems at once."""
    body = await read_json(request, CheckRequest, MAX_JOB_JSON_BYTES)
    plan = await checked(services, principal, body)
    return check_object(plan, await services.catalog.contexts())


@router.get("/v1/workflows/{name}")
async def get_workflow(
    name: str,
    services: TheServices,
    principal: ThePrincipal,
    version: Annotated[int | None, Query(description="Which version; null for the newest.")] = None,
) -> dict[str, Any]:
    """Return a workflow that is kept, by default its newest version."""
    find = store_of(services).get
    return (await anyio.to_thread.run_sync(find, principal.tenant, name, version)).shown()


@router.delete("/v1/workflows/{name}")
async def delete_workflow(
    name: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Forget a workflow with all its versions; its runs are left as they are."""
    require_home(services)
    await anyio.to_thread.run_sync(store_of(services).delete, principal.tenant, name)
    services.stored.freed(principal.tenant)
    return {"id": name, "object": "workflow", "deleted": True}
