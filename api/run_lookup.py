"""A run by its id, for the tenant that asks. Changes nothing; of jobs: see `job_lookup`."""

from functools import partial

import anyio.to_thread

from ..jobs.workflow.runs.runs import RunSnapshot, read_run
from .principal import Principal
from .services import Services
from .workflow_errors import RunNotFound
from .workflow_requests import told


async def find_run(services: Services, principal: Principal, run_id: str) -> RunSnapshot:
    """Look a run up. Another tenant's is as one that is not there.

    Raises:
        RunNotFound: there is no such run.
    """
    work = partial(read_run, services.settings, services.table, run_id)
    with told(run_id):
        run = await anyio.to_thread.run_sync(work)
    if run.tenant != principal.tenant:
        raise RunNotFound(run_id)
    return run
