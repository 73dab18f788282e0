"""Which documents of a run's output land typed as well, beside their JSON text. Knows no row.

A step that asks for documents of a schema has said what they look like before anything is asked:
where that is a simple object (see `parsed_column`), `<column>__parsed` holds it as a struct.
"""

from collections.abc import Mapping

import pyarrow as pa

from ..parsed_column import parsed_type
from .plan import Plan

PARSED = "__parsed"  # behind the name of the column that holds the same as text


def typed_columns(plan: Plan) -> Mapping[str, pa.DataType]:
    """Return the types of the output's documents, by the columns that hold them as text."""
    found: dict[str, pa.DataType] = {}
    for step in plan.steps:
        name = step.spec.column
        is_document = plan.output_columns.get(name) == "json"
        if step.schema is None or not is_document or name + PARSED in plan.output_columns:
            continue
        kind = parsed_type(step.schema)
        if kind is not None:
            found[name] = kind
    return found
