"""Making one row of a group: fields by aggregates, one row by a pick, or all rows as a list.

Knows no order of arrival: a group comes with its rows in order, from memory or from a file. A row
for which an expression fails counts as one for which it is null, and its fault is told.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..expressions.errors import EvaluationError
from ..orders.ordering import Rank, identity, is_ordered, rank_of
from ..plan import GROUPS, ROWS, Plan, PlannedStep
from ..row import MAX_PARENTS_NAMED, Row
from ..spec import Pick, Reduce
from .evaluation import aggregate, evaluate
from .ledger import Ledger, RowFailed, scope

MAX_LISTED_ROWS = 20_000  # of a group that a prompt is made of: they travel as one row


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that become one, the `index`th group. `rows` are in order, and are walked once."""

    index: int
    rows: Iterable[Row]


def group_key(spec: Reduce, row: Row) -> str:
    """Return what rows of one group have in common."""
    if spec.group_by == "parent":
        return row.parent_id or row.row_id
    return identity([row.values.get(name) for name in spec.group_by])


def rank(plan: Plan, spec: Reduce, row: Row, ledger: Ledger) -> Rank:
    """Return what `order_by` puts a row's place by."""
    if spec.order_by is None:
        return rank_of(None)
    return rank_of(_value(plan, spec.order_by, row, ledger))


def reduce_group(plan: Plan, step: PlannedStep, spec: Reduce, group: Group, ledger: Ledger) -> None:
    """Make the row of a group."""
    rows = iter(group.rows)
    first = next(rows)
    is_of_parent = spec.group_by == "parent"
    row_id = group_key(spec, first) if is_of_parent else f"{spec.id}#{group.index}"
    all_rows = itertools.chain([first], rows)
    if spec.pick is not None:
        _pick(plan, spec.pick, first, all_rows, ledger)
        return
    met = _Met(all_rows)
    kept = {name: first.values.get(name) for name in step.columns if name in first.values}
    column = ROWS if step.id == spec.id + GROUPS else spec.column

    def made(value: Any) -> Row:
        parents = () if is_of_parent else tuple(met.row_ids)
        return Row(row_id, {**kept, column: value}, parents)

    try:
        value = _listed(met) if column == ROWS else _aggregated(plan, spec, met, ledger)
        ledger.rows.append(made(value))
    except RowFailed as failure:
        ledger.fail(made(None), failure.error, made)


class _Met(Iterator[Row]):
    """Walks rows, and notes the ids of the first."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.row_ids: list[str] = []

    def __next__(self) -> Row:
        row = next(self._rows)
        if len(self.row_ids) < MAX_PARENTS_NAMED:
            self.row_ids.append(row.row_id)
        return row


def _listed(rows: Iterator[Row]) -> list[Any] | None:
    """Return all rows; None if no prompt can be made of so many, which is for `asking` to say."""
    listed = [
        {**row.values, "row_id": row.row_id} for row in itertools.islice(rows, MAX_LISTED_ROWS)
    ]
    return None if next(rows, None) is not None else listed


def _aggregated(plan: Plan, spec: Reduce, rows: Iterator[Row], ledger: Ledger) -> dict[str, Any]:
    fields = {name: aggregate(text).new() for name, text in (spec.agg or {}).items()}
    for row in rows:
        known = scope(plan, row)
        fault = None
        for accumulator in fields.values():
            try:
                accumulator.add(known)
            except EvaluationError as error:
                fault = fault or error
        if fault is not None:
            ledger.note(row, fault.to_request_error())
    try:
        return {name: accumulator.result() for name, accumulator in fields.items()}
    except EvaluationError as error:
        raise RowFailed(error.to_request_error()) from None


def _pick(plan: Plan, pick: Pick, first: Row, rows: Iterator[Row], ledger: Ledger) -> None:
    """Let the row go on that is chosen, as it stands."""
    if pick.first is not None:
        found = (row for row in rows if _value(plan, pick.first, row, ledger) is True)
        chosen = next(found, None)
        if chosen is None:
            ledger.num_dropped += 1
        else:
            ledger.rows.append(chosen)
        return
    is_max = pick.max is not None
    text = pick.max or pick.min or ""
    best: tuple[Rank, Row] | None = None
    for row in rows:
        value = _value(plan, text, row, ledger)
        if not is_ordered(value):
            continue
        place = rank_of(value)
        if best is None or (place > best[0] if is_max else place < best[0]):
            best = (place, row)
    if best is not None:
        ledger.rows.append(best[1])
        return
    failure = RowFailed.because("nothing_to_pick", f"{text[:200]!r} is null for every row")
    ledger.fail(first, failure.error, lambda _: first)


def _value(plan: Plan, text: str, row: Row, ledger: Ledger) -> Any:
    try:
        return evaluate(text, scope(plan, row))
    except RowFailed as failure:
        ledger.note(row, failure.error)
        return None
