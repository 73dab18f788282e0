"""What stands behind a run's page: its steps as a graph."""

from typing import Any

import anyio.to_thread
from fastapi import APIRouter

from ...jobs.workflow.replanning import plan_of
from ...jobs.workflow.runs.run_dir import RunDir
from ..principal import ThePrincipal
from ..run_graph import graph_object
from ..run_lookup import find_run
from ..services import Services, TheServices
from ..workflow_requests import told

router = APIRouter(tags=["workflows"])


@router.get("/v1/workflows/runs/{run_id}/graph")
async def get_graph(run_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Return the steps of a run and who takes whose rows; it does not change while the run goes."""
    await find_run(services, principal, run_id)
    with told(run_id):
        return await anyio.to_thread.run_sync(_graph, services, run_id)


def _graph(services: Services, run_id: str) -> dict[str, Any]:
    plan = plan_of(RunDir(services.settings.runs_dir, run_id).read())
    return graph_object(run_id, plan)
