"""What an expand makes of one row: copies, items of a list, pieces of a text, combinations."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ..expressions.errors import shown
from ..plan import Plan, PlannedStep
from ..row import Row
from ..spec import Expand
from ..tools import Tools
from .evaluation import count_of, evaluate
from .ledger import RowFailed, scope
from .splitting import pieces


def children(plan: Plan, step: PlannedStep, spec: Expand, row: Row, tools: Tools) -> list[Row]:
    """Make the children of a row.

    Raises:
        RowFailed: what they are made from is not what it must be, or makes too many.
    """
    added = _added(plan, spec, row, tools)
    made = list(itertools.islice(added, spec.max + 1))
    if len(made) > spec.max:
        raise RowFailed.because(
            "too_many_children",
            f"it makes more than {spec.max} rows; `max` allows more",
        )
    if spec.split is not None:
        made = [{spec.column: {**fields[spec.column], "count": len(made)}} for fields in made]
    return [row.child(step.id, index, fields) for index, fields in enumerate(made)]


def stand_in(step: PlannedStep, spec: Expand, row: Row, value: Any) -> Row:
    """Make the only child of a row that failed."""
    columns = spec.cross or (spec.column,)
    return row.child(step.id, 0, dict.fromkeys(columns, value))


def _added(plan: Plan, spec: Expand, row: Row, tools: Tools) -> Iterator[Mapping[str, Any]]:
    """Yield the columns that each child adds."""
    known = scope(plan, row)
    if spec.n is not None:
        for index in range(count_of(spec.n, known)):
            yield {spec.column: {"index": index}}
    elif spec.explode is not None:
        items = _list_of(spec.explode, evaluate(spec.explode, known))
        for index, item in enumerate(items):
            yield {spec.column: {"value": item, "index": index}}
    elif spec.split is not None:
        text = evaluate(spec.split.field, known)
        if not isinstance(text, str):
            what = f"{spec.split.field[:200]!r} must be a text to be split, got {shown(text)}"
            raise RowFailed.because("expression_error", what)
        ends = tools.token_ends(plan) if spec.split.by == "tokens" else None
        for index, piece in enumerate(pieces(text, spec.split, ends)):
            yield {spec.column: {"text": piece, "index": index}}
    else:
        lists = {
            name: _list_of(name, evaluate(each, known) if isinstance(each, str) else each)
            for name, each in (spec.cross or {}).items()
        }
        for items in itertools.product(*lists.values()):
            yield dict(zip(lists, items, strict=True))


def _list_of(name: str, value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    raise RowFailed.because(
        "expression_error", f"{name[:200]!r} must be a list, got {shown(value)}"
    )
