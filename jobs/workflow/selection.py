"""What of a row is the output: all its columns, or those selected. Knows names, not values."""

from .plan import Plan
from .row import Row


def output_name(selected: str) -> str:
    """Name the column that a selected column or field lands as: `judge.score` as `judge_score`."""
    return selected.replace(".", "_")


def selected(plan: Plan, row: Row) -> Row:
    """Keep of a row what the output selects."""
    if plan.output.select is None:
        return row
    return Row(row.row_id, {output_name(path): _at(row, path) for path in plan.output.select})


def _at(row: Row, path: str) -> object:
    value: object = row.values
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
