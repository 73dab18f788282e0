"""How a run begins, whatever it is for: with all its rows sealed. Knows no route and no body."""

from dataclasses import replace
from functools import partial

import anyio.to_thread

from ..jobs.workflow.runs.run_submission import RunRequest, submit_run
from ..jobs.workflow.runs.runs import RunSnapshot
from .home import require_home
from .services import Services
from .workflow_requests import told


async def begin(services: Services, wish: RunRequest) -> RunSnapshot:
    """Seal a run.

    Raises:
        WorkflowRefused: with all that is wrong.
    """
    require_home(services)
    wish = replace(wish, served=frozenset(await services.catalog.served()))
    work = partial(submit_run, services.settings, services.table, wish)
    with told():
        return await anyio.to_thread.run_sync(work, limiter=services.submissions)
