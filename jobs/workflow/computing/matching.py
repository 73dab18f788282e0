"""Bringing rows of two steps together: when they match, and what a match makes. Knows no file."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..orders.ordering import identity
from ..plan import PlannedStep
from ..row import Row
from ..spec import Join
from .ledger import Ledger, RowFailed

ROW_ID = "row_id"


def is_by_row(spec: Join) -> bool:
    """Whether rows match by their ids, so that one matches at most one other."""
    return left_names(spec) == right_names(spec) == (ROW_ID,)


def left_names(spec: Join) -> tuple[str, ...]:
    """Name the columns of the first step that are compared."""
    return (spec.on,) if isinstance(spec.on, str) else tuple(spec.on)


def right_names(spec: Join) -> tuple[str, ...]:
    """Name the columns of the second step that are compared."""
    return tuple(spec.on.values()) if isinstance(spec.on, dict) else left_names(spec)


def match_key(names: Sequence[str], row: Row) -> str | None:
    """Return what is equal for rows that match; None of a row that matches nothing."""
    values = [row.row_id if name == ROW_ID else row.values.get(name) for name in names]
    return None if None in values else identity(values)


def join_row(
    step: PlannedStep, spec: Join, row: Row, matches: Sequence[Mapping[str, Any]], ledger: Ledger
) -> None:
    """Make what a row and its matches make; of the matches, one more than `max` is enough."""
    match spec.how:
        case "semi" | "anti":
            if bool(matches) == (spec.how == "semi"):
                ledger.rows.append(row)
            else:
                ledger.num_dropped += 1
            return
        case "inner" if not matches:
            ledger.num_dropped += 1
            return

    def made(value: Any, index: int = 0) -> Row:
        added = {spec.column: value}
        return row.with_values(added) if is_by_row(spec) else row.child(step.id, index, added)

    if len(matches) > spec.max:
        what = f"more than {spec.max} rows match it; `max` allows more"
        ledger.fail(row, RowFailed.because("too_many_children", what).error, made)
        return
    for index, values in enumerate(matches or (None,)):
        ledger.rows.append(made(values, index))
