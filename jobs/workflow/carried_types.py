"""Which types columns of a run's rows had where they came from. Knows no row and no file.

A step adds columns, and leaves those as they are that an input has brought: what the input says of
a column (see `column_schema`) holds wherever the column goes. Where rows of several inputs meet, it
holds if all of them say the same.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..column_schema import read_types, written_types
from ..frame_index import noted_index
from .meta import META
from .plan import INPUT, ColumnKind, Plan
from .runs.run_spec import RunSpec
from .spec import Concat

_Origins = Mapping[str, frozenset[str]]  # inputs, by the columns that they have brought


def carried_types(spec: RunSpec, plan: Plan, step_id: str | None = None) -> str | None:
    """Write down the types that columns of a step, or of the output, had in their inputs.

    None if no input says more of them than they say themselves. An index is named, too, if all of
    its columns are among these.
    """
    if not any(dataset.arrow_schema for dataset in spec.inputs.values()):
        return None
    said = {name: read_types(dataset.arrow_schema) for name, dataset in spec.inputs.items()}
    types = {name: dict(zip(each.names, each.types, strict=True)) for name, each in said.items()}
    origins = origins_of(plan)[step_id or plan.output_step]
    if step_id is None and plan.output.select is not None:
        origins = {name: origins[name] for name in plan.output.select if name in origins}
    fields: list[pa.Field] = []
    for column, inputs in origins.items():
        kinds = {types[name].get(column) for name in inputs}
        if len(kinds) == 1 and (kind := kinds.pop()) is not None:
            fields.append(pa.field(column, kind))
    indexes = {name: noted_index(schema.metadata) for name, schema in said.items()}
    return written_types(fields, _index_among(origins, indexes))


def _index_among(origins: _Origins, indexes: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Choose the first index of an input of which no column is missing."""
    for name, index in indexes.items():
        if index and all(name in origins.get(column, ()) for column in index):
            return index
    return ()


def origins_of(plan: Plan) -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Follow the columns of all inputs through all steps, as far as they stay what they are.

    Of each step, and of each input with `INPUT` before its name, it names the inputs that have
    brought a column. Nothing is known of what an input brings that is not there yet.
    """
    kinds: dict[str, Mapping[str, ColumnKind]] = {
        INPUT + name: plan.inputs.get(name, {}) for name in plan.workflow.inputs
    }
    found: dict[str, _Origins] = {
        INPUT + name: dict.fromkeys(plan.inputs.get(name, {}), frozenset({name}))
        for name in plan.workflow.inputs
    }
    for step in plan.steps:
        # What a join takes from its second source lies within the column that it adds.
        sources = step.sources if isinstance(step.spec, Concat) else step.sources[:1]
        added = {step.spec.column, step.spec.column + META}
        origins: dict[str, frozenset[str]] = {}
        for column, kind in step.columns.items():
            bringing = [source for source in sources if column in kinds[source]]
            is_carried = column not in added and all(
                column in found[source] and kinds[source][column] == kind for source in bringing
            )
            if bringing and is_carried:
                origins[column] = frozenset().union(*(found[each][column] for each in bringing))
        kinds[step.id], found[step.id] = step.columns, origins
    return found
