"""What a request to change a job or a run names, and both have. Knows no route."""

from ..jobs.workflow.runs.run_control import RunChanges
from .job_schemas import JobChange
from .job_wish import priority_for
from .principal import Principal
from .services import Services
from .workflow_schemas import RunChange


def named_changes(
    services: Services, principal: Principal, body: JobChange | RunChange
) -> RunChanges:
    """Keep what was named of name, metadata and priority; pydantic fills in the rest.

    Raises:
        InvalidRequest: the priority is above the tenant's ceiling.
    """
    changes = RunChanges()
    named = body.model_fields_set
    if "name" in named:
        changes["name"] = body.name
    if "metadata" in named:
        changes["metadata"] = body.metadata or {}
    if "priority" in named:
        changes["priority"] = priority_for(services, principal, body.priority)
    return changes
