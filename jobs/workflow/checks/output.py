"""Which rows and columns are the result of a workflow, and where it is to land."""

from collections.abc import Mapping

from ..expressions.errors import nearest
from ..expressions.typing import NoSuchField, field_type
from ..plan import ColumnKind
from ..selection import output_name
from ..spec import Workflow
from .draft import is_nameless
from .flow import Flow
from .problems import Problems


def output_step(workflow: Workflow, problems: Problems) -> str:
    """Return the step whose rows are the result."""
    last = workflow.steps[-1].id
    wanted = workflow.output.from_
    ids = [step.id for step in workflow.steps]
    if wanted is not None and wanted not in ids:
        hint = nearest(wanted, ids)
        if hint or not any(map(is_nameless, ids)):  # it may mean one of those
            problems.add("output.from", f"there is no step {wanted[:80]!r}{hint}")
    _check_sink(workflow, problems)
    return last if wanted is None else wanted


def output_columns(workflow: Workflow, flow: Flow, problems: Problems) -> Mapping[str, ColumnKind]:
    """Return the columns of the result, under the names that they land as."""
    if workflow.output.select is None:
        return {name: of.column_kind for name, of in flow.columns.items()}
    selected: dict[str, ColumnKind] = {}
    for path in workflow.output.select:
        of, called = flow.row_type, "row"
        try:
            for key in path.split("."):
                of, called = field_type(of, key, called), f"{called}.{key}"
        except NoSuchField as error:
            problems.add("output.select", f"{path[:80]}: {error}")
            continue
        name = output_name(path)
        if name in selected:
            problems.add("output.select", f"two of them would land as {name!r}")
        selected[name] = of.column_kind
    if not workflow.output.select:
        problems.add("output.select", "must name at least one column")
    return selected


def _check_sink(workflow: Workflow, problems: Problems) -> None:
    sink = workflow.output.sink
    if sink is None:
        return
    scheme, separator, rest = sink.uri.partition("://")
    if not sink.uri.strip() or "\0" in sink.uri:
        problems.add("output.sink.uri", "must name a directory, or s3://bucket/prefix")
    elif separator and (scheme != "s3" or not rest.strip("/")):
        problems.add(
            "output.sink.uri",
            f"rows go to a directory or to s3://bucket/prefix, not {sink.uri[:80]!r}",
        )
