"""What is known of the rows of inputs: from the data, or from what is promised of it."""

from collections.abc import Mapping

from ..expressions.errors import nearest
from ..expressions.types import Type
from ..plan import INPUT, ROWS, ColumnKind
from ..spec import Input, Workflow
from .flow import Flow
from .problems import Problems
from .step import RESERVED

Inputs = Mapping[str, Mapping[str, ColumnKind]]


def input_flows(
    workflow: Workflow, inputs: Inputs, problems: Problems, *, is_alone: bool
) -> dict[str, Flow]:
    """Return the rows of each input under its name; those of one that is missing, as promised.

    With `is_alone` the workflow is not to be run yet, and inputs may be missing.
    """
    flows: dict[str, Flow] = {}
    for region, (name, promised) in enumerate(workflow.inputs.items()):
        columns: Mapping[str, ColumnKind] = promised.columns
        if name in inputs:
            columns = inputs[name]
            _check_promise(name, promised, columns, problems)
        elif not is_alone:
            problems.add(f"inputs.{name}", "the workflow needs this input, and it is not there")
        for column in columns:
            if column in RESERVED or column == ROWS:
                problems.add(
                    f"inputs.{name}", f"the column {column!r} has a name of its rows; rename it"
                )
        types = {column: Type.of_column(kind) for column, kind in columns.items()}
        flows[INPUT + name] = Flow(INPUT + name, types, name not in inputs, region)
    for name in inputs:
        if name not in workflow.inputs:
            hint = nearest(name, workflow.inputs)
            problems.add(f"inputs.{name[:40]}", f"the workflow has no such input{hint}")
    return flows


def _check_promise(
    name: str, promised: Input, columns: Mapping[str, ColumnKind], problems: Problems
) -> None:
    for column, kind in promised.columns.items():
        where = f"inputs.{name}.columns.{column}"
        if column not in columns:
            problems.add(where, f"the data has no such column{nearest(column, columns)}")
        elif kind not in ("json", columns[column]) and (columns[column], kind) != (
            "int64",
            "float64",
        ):
            problems.add(where, f"is promised as {kind}, but the data has {columns[column]}")
