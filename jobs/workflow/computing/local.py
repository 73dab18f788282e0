"""What steps make of one shard, without asking anybody and without a look at any other shard."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ..plan import Plan, PlannedStep
from ..row import Applied, Row
from ..spec import Concat, Expand, Filter, Join, Map, Reduce, Sample
from ..tools import NO_TOOLS, Tools
from .evaluation import evaluate, holds
from .expanding import children, stand_in
from .grouping import Group, group_key, rank, reduce_group
from .ledger import Ledger, RowFailed, scope
from .matching import join_row, left_names, match_key, right_names


def apply(
    plan: Plan, step: PlannedStep, sources: Sequence[list[Row]], tools: Tools = NO_TOOLS
) -> Applied:
    """Do a local step's work on one shard of each of its sources."""
    ledger = Ledger(step)
    match step.spec:
        case Map() as spec:
            _map(plan, spec, sources[0], ledger, tools)
        case Filter() as spec:
            _filter(plan, spec, sources[0], ledger)
        case Expand() as spec:
            _expand(plan, step, spec, sources[0], ledger, tools)
        case Sample() as spec:
            _sample(spec, sources[0], ledger)
        case Reduce() as spec:
            _reduce(plan, step, spec, sources[0], ledger)
        case Join() as spec:
            _join(step, spec, sources[0], sources[1], ledger)
        case Concat():
            ledger.rows += [
                concatenated(step, row, place) for place, rows in enumerate(sources) for row in rows
            ]
        case _:
            raise ValueError(f"{step.id} cannot be computed from one shard alone")
    return ledger.applied()


def concatenated(step: PlannedStep, row: Row, place: int) -> Row:
    """Make a row of the step out of one of its `place`th source."""
    return row.child(step.id, place, {})


def chance(seed: int, row_id: str) -> int:
    """Draw 63 bits for a row: always the same, whatever shard it lies in."""
    digest = blake2b(f"{seed}/{row_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _map(plan: Plan, spec: Map, rows: list[Row], ledger: Ledger, tools: Tools) -> None:
    for row in rows:
        try:
            if spec.op is None:
                known = scope(plan, row)
                value: Any = {name: evaluate(text, known) for name, text in spec.set.items()}
            else:
                value = tools.perform(spec.op, row.values)
        except RowFailed as failure:
            ledger.fail(row, failure.error, lambda value, row=row: _valued(row, spec, value))
        else:
            ledger.rows.append(_valued(row, spec, value))


def _valued(row: Row, spec: Map, value: Any) -> Row:
    return row.with_values({spec.column: value})


def _filter(plan: Plan, spec: Filter, rows: list[Row], ledger: Ledger) -> None:
    """Where the condition cannot be decided, the row passes; not with a `default` of false."""
    for row in rows:
        try:
            passes = holds(spec.where, scope(plan, row))
        except RowFailed as failure:
            ledger.fail(row, failure.error, lambda value, row=row: None if value is False else row)
        else:
            if passes:
                ledger.rows.append(row)
            else:
                ledger.num_dropped += 1


def _expand(
    plan: Plan, step: PlannedStep, spec: Expand, rows: list[Row], ledger: Ledger, tools: Tools
) -> None:
    for row in rows:
        try:
            made = children(plan, step, spec, row, tools)
        except RowFailed as failure:
            ledger.fail(row, failure.error, lambda value, row=row: stand_in(step, spec, row, value))
        else:
            ledger.rows += made
            ledger.num_dropped += not made  # where nothing is to be made of it, it ends here


def _sample(spec: Sample, rows: list[Row], ledger: Ledger) -> None:
    limit = int((spec.fraction or 0.0) * 2**63)
    kept = [row for row in rows if chance(spec.seed, row.row_id) < limit]
    ledger.rows += kept
    ledger.num_dropped += len(rows) - len(kept)


def _reduce(plan: Plan, step: PlannedStep, spec: Reduce, rows: list[Row], ledger: Ledger) -> None:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(group_key(spec, row), []).append(row)
    for index, members in enumerate(groups.values()):
        if spec.order_by is not None:
            ranked = [(rank(plan, spec, row, ledger), row) for row in members]
            members = [row for _, row in sorted(ranked, key=lambda pair: pair[0])]
        reduce_group(plan, step, spec, Group(index, members), ledger)


def _join(step: PlannedStep, spec: Join, left: list[Row], right: list[Row], ledger: Ledger) -> None:
    known: dict[str, list[Row]] = {}
    for row in right:
        key = match_key(right_names(spec), row)
        if key is not None:
            known.setdefault(key, []).append(row)
    for row in left:
        key = match_key(left_names(spec), row)
        found = known.get(key, []) if key is not None else []
        matches = [each.values for each in found[: spec.max + 1]]
        join_row(step, spec, row, matches, ledger)
