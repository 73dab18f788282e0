"""What a step that asks nobody does to rows, checked: the columns it adds, the rows it makes."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..expressions.errors import nearest, shown
from ..expressions.types import ANY, INT, TEXT, Type, joined
from ..spec import Dedupe, Expand, Filter, Join, Map, Reduce, Sample, Split, Step
from .flow import Flow
from .step import StepCheck

ROW_ID = "row_id"


@dataclass(frozen=True, slots=True)
class Shaped:
    """What was found out about such a step: what it adds, and the children it makes at most."""

    spec: Step
    added: dict[str, Type]
    max_children: int = 1


def check_map(check: StepCheck, spec: Map) -> Shaped:
    """Check expressions, or the name of an operation."""
    if bool(spec.set) == (spec.op is not None):
        check.tell("set", "there must be either fields to set, or an op")
    if spec.op is not None:
        return Shaped(spec, {spec.column: ANY})
    row = check.flow.row_type
    fields: dict[str, Type] = {}
    for name, text in spec.set.items():
        if not name.strip() or len(name) > 200:
            check.tell("set", f"a field must have a name, got {shown(name)}")
        fields[name] = check.expression(f"set.{name[:40]}", text, row)[1].without_values()
    return Shaped(spec, {spec.column: _or_default(check, Type.object_of(fields))})


def check_filter(check: StepCheck, spec: Filter) -> Shaped:
    """Check a condition."""
    check.expression("where", spec.where, check.flow.row_type, "truth")
    return Shaped(spec, {})


def check_dedupe(check: StepCheck, spec: Dedupe) -> Shaped:
    """Check a key; one that is the same for all rows would leave one of them."""
    template = check.template("key", spec.key, check.scope(check.flow.row_type))
    if template is not None and not any(path[0] == "row" for path in template.paths):
        name = spec.key.strip() if spec.key.strip() in check.flow.columns else "text"
        check.tell("key", f"it is the same for every row; write {{{{ row.{name} }}}}")
    return Shaped(spec, {})


def check_sample(check: StepCheck, spec: Sample) -> Shaped:
    """Check that it is said how many."""
    if (spec.fraction is None) == (spec.size is None):
        check.tell("fraction", "there must be either a fraction or a size")
    return Shaped(spec, {})


def check_expand(check: StepCheck, spec: Expand) -> Shaped:
    """Check the one way in which rows are made."""
    ways = [way for way in ("n", "explode", "split", "cross") if getattr(spec, way) is not None]
    if len(ways) != 1:
        got = " and ".join(ways) or "none"
        check.tell("n", f"there must be exactly one of n, explode, split and cross, got {got}")
        return Shaped(spec, {spec.column: ANY})
    match ways[0]:
        case "n":
            return _copies(check, spec)
        case "explode":
            return _items(check, spec)
        case "split":
            return _pieces(check, spec)
        case _:
            return _combinations(check, spec)


def _copies(check: StepCheck, spec: Expand) -> Shaped:
    added = {spec.column: _or_default(check, Type.object_of({"index": INT}))}
    number: Any = spec.n
    if isinstance(number, str):
        if check.is_of_row(number):
            check.expression("n", number, check.flow.row_type, "count")
            return Shaped(spec, added, spec.max)
        number = check.constant("n", number)
        if number is None:
            return Shaped(spec, added)
    if type(number) is not int or not 1 <= number <= spec.max:
        check.tell("n", f"must be from 1 to {spec.max} (`max` allows more), got {shown(number)}")
        return Shaped(spec, added)
    return Shaped(msgspec.structs.replace(spec, n=number), added, number)


def _items(check: StepCheck, spec: Expand) -> Shaped:
    text = _column_or_expression(check, spec.explode or "")
    _, found = check.expression("explode", text, check.flow.row_type, "list")
    item = (found.item or ANY).without_values()
    added = {spec.column: _or_default(check, Type.object_of({"value": item, "index": INT}))}
    return Shaped(msgspec.structs.replace(spec, explode=text), added, spec.max)


def _pieces(check: StepCheck, spec: Expand) -> Shaped:
    split = spec.split or Split("")
    text = _column_or_expression(check, split.field)
    check.expression("split.field", text, check.flow.row_type, "text")
    if split.overlap >= split.piece_size:
        check.tell("split.overlap", f"must be less than size {split.piece_size}: {split.overlap}")
    if (split.by == "separator") != (split.separator is not None) or split.separator == "":
        check.tell("split.separator", "goes with by: separator, and is not empty")
    fields = {"text": TEXT, "index": INT, "count": INT}
    added = {spec.column: _or_default(check, Type.object_of(fields))}
    written_out = msgspec.structs.replace(spec, split=msgspec.structs.replace(split, field=text))
    return Shaped(written_out, added, spec.max)


def _combinations(check: StepCheck, spec: Expand) -> Shaped:
    if spec.as_ is not None:
        check.tell("as", "the columns of a cross have the names that it gives them")
    cross: dict[str, list[Any] | str] = {}
    added: dict[str, Type] = {}
    count, is_known = 1, True
    for name, given in (spec.cross or {}).items():
        cross[name] = given
        if isinstance(given, str) and check.is_of_row(given):
            _, found = check.expression(f"cross.{name}", given, check.flow.row_type, "list")
            added[name], is_known = (found.item or ANY), False
            continue
        items = check.constant(f"cross.{name}", given) if isinstance(given, str) else given
        if items is None:
            items = [None]  # what it is has been asked for, or is not known yet
        elif not isinstance(items, list) or not items:
            check.tell(f"cross.{name}", f"must be a list of one or more items, got {shown(items)}")
            items = [None]
        cross[name], count = items, count * len(items)
        added[name] = Type.list_of([Type.of_value(item) for item in items]).item or ANY
    if not cross:
        check.tell("cross", "there must be at least one list")
    if count > spec.max:
        check.tell("cross", f"it makes {count} rows of one; `max` allows {spec.max}")
    if check.is_default:
        added = {name: joined([of, Type.of_value(spec.default)]) for name, of in added.items()}
    written_out = msgspec.structs.replace(spec, cross=cross)
    return Shaped(written_out, added, min(count, spec.max) if is_known else spec.max)


def check_join(check: StepCheck, spec: Join) -> Shaped:
    """Check what two steps' rows are compared by."""
    left, right = check.flows
    if isinstance(spec.on, str):
        pairs = [(spec.on, spec.on)]
    elif isinstance(spec.on, dict):
        pairs = list(spec.on.items())
    else:
        pairs = [(name, name) for name in spec.on]
    if not pairs:
        check.tell("on", "there must be at least one column to compare")
    for pair in pairs:
        types = [
            _column(check, "on", name, flow) for name, flow in zip(pair, (left, right), strict=True)
        ]
        kinds = {found.kind for found in types} - {"any", "null"}
        if len(kinds) > 1 and kinds != {"int64", "float64"}:
            words = " and ".join(found.in_words for found in types)
            check.tell("on", f"{' and '.join(pair)} are {words}, which are never equal")
    if spec.how in ("semi", "anti"):
        return Shaped(spec, {})
    added = {spec.column: _or_default(check, right.row_type)}
    is_by_row = pairs == [(ROW_ID, ROW_ID)]
    return Shaped(spec, added, 1 if is_by_row else spec.max)


def check_groups(check: StepCheck, spec: Reduce) -> tuple[Reduce, Flow | None]:
    """Check how rows come together; return the rows that stay, with the columns that do."""
    flow = check.flow
    if spec.order_by is not None:
        text = _column_or_expression(check, spec.order_by)
        check.expression("order_by", text, flow.row_type, "order")
        spec = msgspec.structs.replace(spec, order_by=text)
    if spec.group_by == "parent":
        if not flow.parents:
            if flow.is_traced:
                told = "no step before it makes several rows of one; group by columns instead"
                check.tell("group_by", told)
            return spec, None
        return spec, flow.parents[-1]
    if len(set(spec.group_by)) < len(spec.group_by):
        check.tell("group_by", "one of the columns is there twice")
    kept = {name: _column(check, "group_by", name, flow) for name in spec.group_by}
    return spec, replace(flow, columns=kept, is_open=False, parents=())


def check_ways(check: StepCheck, spec: Reduce) -> str | None:
    """Return the one way in which a row is made of a group: prompt, agg or pick."""
    is_asking = spec.prompt is not None or bool(spec.messages)
    ways = {"prompt": is_asking, "agg": spec.agg is not None, "pick": spec.pick is not None}
    given = [way for way, is_given in ways.items() if is_given]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        check.tell("prompt", f"there must be exactly one of prompt, agg and pick, got {got}")
        return None
    if not is_asking:
        for name in ("fold", "schema", "schema_ref", "model"):
            if getattr(spec, name) is not None:
                check.tell(name, "it goes with a prompt; nobody is asked here")
    return given[0]


def check_aggregates(check: StepCheck, spec: Reduce) -> Type:
    """Check fields of a group; return the type of what holds them."""
    fields = {
        name: check.aggregate(f"agg.{name[:40]}", text, check.flow.row_type)
        for name, text in (spec.agg or {}).items()
    }
    if not fields:
        check.tell("agg", "there must be at least one field")
    return _or_default(check, Type.object_of(fields))


def check_pick(check: StepCheck, spec: Reduce) -> None:
    """Check by what one row of a group is chosen."""
    pick = spec.pick
    ways = [way for way in ("max", "min", "first") if getattr(pick, way) is not None]
    if len(ways) != 1:
        got = " and ".join(ways) or "none"
        check.tell("pick", f"there must be exactly one of max, min and first, got {got}")
    for way in ways:
        wants = "truth" if way == "first" else "order"
        check.expression(f"pick.{way}", getattr(pick, way), check.flow.row_type, wants)
    if spec.as_ is not None:
        check.tell("as", "a picked row stays what it was; there is nothing to name")


def _or_default(check: StepCheck, of: Type) -> Type:
    return joined([of, Type.of_value(check.spec.default)]) if check.is_default else of


def _column_or_expression(check: StepCheck, text: str) -> str:
    """Return an expression; the mere name of a column stands for the column."""
    name = text.strip()
    return f"row.{name}" if name.isidentifier() and name not in ("row", "params") else text


def _column(check: StepCheck, field: str, name: str, flow: Flow) -> Type:
    """Return the type of a column by its name; `row_id` is one to join by."""
    if name == ROW_ID and field == "on":
        return TEXT
    if name in flow.columns:
        return flow.columns[name].without_values()
    if flow.is_open and not flow.is_traced:
        return ANY
    if name in check.added_by:
        check.tell(field, f"{name} is what step {check.added_by[name]!r} adds, not in {flow.name}")
    elif field == "group_by" and name.partition(".")[0] in flow.columns:
        check.tell(
            field,
            f"{name[:80]} is a field, and rows are grouped by columns; make it one by a step such "
            f"as {{id: key, type: map, set: {{value: row.{name[:80]}}}}}, and group by key",
        )
    elif not flow.is_open:
        known = nearest(name, flow.columns) or f"; known: {', '.join(flow.columns)[:200] or 'none'}"
        check.tell(field, f"the rows of {flow.name} have no column {name[:80]!r}{known}")
    return ANY
