"""From what a client says about a workflow to what can be checked and run. Knows no route.

A specification comes with the request or by the name under which it is kept; a model that it does
not name is the only one served.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import anyio.to_thread
import pyarrow as pa

from ..jobs.api_keys import Scope
from ..jobs.columns import ColumnTypes
from ..jobs.errors import UnknownJob
from ..jobs.inputs import InputRow, UnreadableInput
from ..jobs.settings import Settings
from ..jobs.sources import NamedFileSource, PathSource, RowsSource, Source
from ..jobs.submission import input_items
from ..jobs.workflow.checks.check import InvalidWorkflow, check_document, read_workflow
from ..jobs.workflow.checks.problems import Problems
from ..jobs.workflow.checks.text_numbers import check_text_numbers
from ..jobs.workflow.plan import ColumnKind, Plan
from ..jobs.workflow.spec import Workflow
from .errors import InvalidRequest
from .principal import Principal
from .services import Services
from .workflow_errors import RunNotFound, WorkflowRefused
from .workflow_models import with_model
from .workflow_schemas import CheckRequest, Dataset
from .workflow_store import WorkflowStore

_ROWS_LOOKED_AT = 1_000  # of an input, to learn its columns before a run


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
        raise WorkflowRefused(_told(error)) from None
    except UnknownJob:
        raise RunNotFound(run_id) from None


async def specification(services: Services, principal: Principal, body: CheckRequest) -> Workflow:
    """Return the specification that a request means.

    Raises:
        WorkflowRefused: it is none; all that is wrong with it is told, not its shape alone.
        NotFound: nothing is kept under the name.
    """
    document = await _document(services, principal, body)
    try:
        return await anyio.to_thread.run_sync(read_workflow, document)
    except InvalidWorkflow as error:
        await checked(services, principal, body)
        raise WorkflowRefused(_told(error)) from None


async def checked(services: Services, principal: Principal, body: CheckRequest) -> Plan:
    """Check a workflow against the first rows of its inputs, or the columns that it promises.

    Where there is neither, it is checked as far as that goes.

    Raises:
        WorkflowRefused: with all that is wrong.
        NotFound: nothing is kept under the name.
    """
    document = await _document(services, principal, body)
    served = await services.catalog.served()
    sources = sources_of(services, principal, body.inputs)

    def work() -> Plan:
        problems = Problems()
        columns: dict[str, Mapping[str, ColumnKind]] = {}
        schemas: dict[str, pa.Schema | None] = {}
        for name, source in sources.items():
            with problems.at(f"inputs.{name}", UnreadableInput):
                columns[name], schemas[name] = _columns_of(services.settings, source)
        with told():
            plan = check_document(document, body.params, columns, served=served, problems=problems)
            check_text_numbers(plan, schemas)
        return plan

    return await anyio.to_thread.run_sync(work, limiter=services.submissions)


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


async def _document(
    services: Services, principal: Principal, body: CheckRequest
) -> Mapping[str, Any]:
    """Find what a request names, and write out a model that it leaves open."""
    document = body.workflow
    if isinstance(document, str):
        find = store_of(services).get
        stored = await anyio.to_thread.run_sync(find, principal.tenant, document, body.version)
        document = stored.workflow
    elif body.version is not None:
        raise InvalidRequest("version goes with the name of a stored workflow", param="version")
    return with_model(document, await services.catalog.served())


def _told(error: InvalidWorkflow) -> list[tuple[str, str]]:
    return [(each.where, each.message) for each in error.problems]


def _columns_of(
    settings: Settings, source: Source
) -> tuple[Mapping[str, ColumnKind], pa.Schema | None]:
    """Learn the columns of an input from its first rows, and what it says of them itself."""
    types = ColumnTypes()
    items = input_items(settings, source, None)
    for item in islice(items, _ROWS_LOOKED_AT):
        if isinstance(item, InputRow):
            types.add(item.row)
    return {name: kind.value for name, kind in types.settled().items()}, items.arrow_schema
