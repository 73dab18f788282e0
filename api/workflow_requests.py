"""From what a client says about a workflow to what can be checked and run. Knows no route.

A specification comes with the request or by the name under which it is kept; a model that it does
not name is the only one served.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import anyio.to_thread

from ..jobs.api_keys import Scope
from ..jobs.columns import ColumnTypes
from ..jobs.errors import UnknownJob
from ..jobs.inputs import InputRow
from ..jobs.settings import Settings
from ..jobs.sources import NamedFileSource, PathSource, RowsSource, Source
from ..jobs.submission import input_items
from ..jobs.workflow.checks.check import InvalidWorkflow, check, check_alone, read_workflow
from ..jobs.workflow.plan import ColumnKind, Plan
from ..jobs.workflow.spec import Workflow
from .errors import InvalidRequest
from .principal import Principal
from .services import Services
from .workflow_errors import RunNotFound, WorkflowRefused
from .workflow_schemas import CheckRequest, Dataset
from .workflow_store import WorkflowStore

_ROWS_LOOKED_AT = 1_000  # of an input, to learn its columns before a run

_ASKING = frozenset({"generate", "judge", "embed"})


def store_of(services: Services) -> WorkflowStore:
    """Open what is kept under names."""
    return WorkflowStore(services.settings.data_dir / "workflows")


@contextmanager
def told(run_id: str = "") -> Iterator[None]:
    """Translate what the queue says about workflows and runs.

    Raises:
        WorkflowRefused: with all problems of a specification.
        RunNotFound: there is no such run.
    """
    try:
        yield
    except InvalidWorkflow as error:
        raise WorkflowRefused([(each.where, each.message) for each in error.problems]) from None
    except UnknownJob:
        raise RunNotFound(run_id) from None


async def specification(services: Services, principal: Principal, body: CheckRequest) -> Workflow:
    """Return the specification that a request means.

    Raises:
        WorkflowRefused: it is none.
        NotFound: nothing is kept under the name, or no worker serves a model.
    """
    document = body.workflow
    if isinstance(document, str):
        find = store_of(services).get
        stored = await anyio.to_thread.run_sync(find, principal.tenant, document, body.version)
        document = stored.workflow
    elif body.version is not None:
        raise InvalidRequest("version goes with the name of a stored workflow", param="version")
    document = await _with_model(services, document)
    with told():
        workflow = await anyio.to_thread.run_sync(read_workflow, document)
    for model in sorted(_models_named(workflow)):
        await services.catalog.require(model)
    return workflow


async def checked(
    services: Services, principal: Principal, body: CheckRequest, workflow: Workflow
) -> Plan | None:
    """Check a workflow against the first rows of its inputs, or the columns that it promises.

    Returns None where there is neither: then it was checked as far as that goes.

    Raises:
        WorkflowRefused: with all that is wrong.
    """
    sources = sources_of(services, principal, body.inputs)

    def work() -> Plan | None:
        columns: dict[str, Mapping[str, ColumnKind]] = {
            name: dataset.columns for name, dataset in workflow.inputs.items() if dataset.columns
        }
        for name, source in sources.items():
            columns[name] = _columns_of(services.settings, source)
        with told():
            if columns.keys() >= workflow.inputs.keys():
                return check(workflow, body.params, columns)
            check_alone(workflow)
        return None

    plan = await anyio.to_thread.run_sync(work, limiter=services.submissions)
    for model in sorted({model for step in plan.steps for model in step.models} if plan else ()):
        await services.catalog.require(model)
    return plan


def sources_of(
    services: Services, principal: Principal, inputs: Mapping[str, Dataset]
) -> dict[str, Source]:
    """Name where the rows of each input are."""
    return {
        name: _source_of(services, principal, name, dataset) for name, dataset in inputs.items()
    }


def _source_of(services: Services, principal: Principal, name: str, dataset: Dataset) -> Source:
    if dataset.rows is not None:
        return RowsSource(dataset.rows)
    if dataset.file_id is not None:
        stored = services.files.get(dataset.file_id, principal.tenant)
        return NamedFileSource(services.files.path(stored), stored.filename)
    principal.require(Scope.ADMIN, f"to read a file of the server (inputs.{name}.path)")
    return PathSource(dataset.path or "")


async def _with_model(services: Services, document: dict[str, Any]) -> dict[str, Any]:
    """Name the one model that is served, where a step that asks is left without."""
    defaults, steps = document.get("defaults", {}), document.get("steps")
    if not isinstance(defaults, dict) or not isinstance(steps, list) or defaults.get("model"):
        return document
    if all(not _asks(step) or step.get("model") for step in steps if isinstance(step, dict)):
        return document
    return {**document, "defaults": {**defaults, "model": await services.catalog.only()}}


def _asks(step: dict[str, Any]) -> bool:
    kind = step.get("type")
    is_asking_reduce = kind == "reduce" and bool(step.get("prompt") or step.get("messages"))
    return kind in _ASKING or is_asking_reduce


def _models_named(workflow: Workflow) -> set[str]:
    """Collect the models that are named outright; templates are for the check."""
    named = {workflow.defaults.model} | {getattr(step, "model", None) for step in workflow.steps}
    return {model for model in named if model is not None and "{" not in model}


def _columns_of(settings: Settings, source: Source) -> dict[str, ColumnKind]:
    """Learn the columns of an input from its first rows."""
    types = ColumnTypes()
    for item in islice(input_items(settings, source, None), _ROWS_LOOKED_AT):
        if isinstance(item, InputRow):
            types.add(item.row)
    return {name: kind.value for name, kind in types.settled().items()}
