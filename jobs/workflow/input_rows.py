"""The rows of a run's inputs, as its steps see them. Knows no step."""

from .row import Row
from .runs.run_dir import RunDir
from .runs.run_spec import RunSpec


def input_rows(directory: RunDir, spec: RunSpec, name: str, shard: int) -> list[Row]:
    """Read a shard of an input. Of several inputs each row's id says from which it comes.

    Raises:
        CorruptInput: it cannot be read.
    """
    columns = spec.inputs[name].columns
    prefix = f"{name}:" if len(spec.inputs) > 1 else ""
    with directory.open_input(name) as sealed:
        return [
            Row(f"{prefix}{each.row_index}", {column: each.row.get(column) for column in columns})
            for each in sealed.shard(shard)
        ]
