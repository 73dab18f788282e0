"""Decimals and durations, which are text in a workflow as JSON has neither. Knows columns, no row.

As text, "9.50" comes behind "10.50": to order such a column would go wrong without a word, and so
would a comparison of decimals that are written with other numbers of digits. Only what is certain
to be such a column is refused: templates, and fields of what a step adds, are not looked into.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ..carried_types import origins_of
from ..expressions.aggregates import Aggregate
from ..expressions.expression import Expression
from ..expressions.tree import Call, Compare, Node, path_of, walk
from ..plan import Plan, PlannedStep
from ..spec import Filter, Generate, Join, Map, Pick, Reduce
from .draft import place_of
from .problems import Problems

_ORDERS = frozenset({"<", "<=", ">", ">="})
_Numbers = Mapping[str, tuple[pa.DataType, ...]]  # what columns were, those that were numbers


def check_text_numbers(plan: Plan, schemas: Mapping[str, pa.Schema | None]) -> None:
    """Refuse to order what was a decimal or a duration in an input, and is text now.

    Args:
        schemas: what each input says of its columns, as far as it says anything.

    Raises:
        InvalidWorkflow: naming each place, and the way out.
    """
    said = {name: _numbers_in(plan, name, each) for name, each in schemas.items() if each}
    if not any(said.values()):
        return
    origins = origins_of(plan)

    def numbers(source: str) -> _Numbers:
        found: dict[str, tuple[pa.DataType, ...]] = {}
        for column, inputs in origins.get(source, {}).items():
            each = [said.get(name, {}).get(column) for name in sorted(inputs)]
            if kinds := tuple(kind for kind in each if kind is not None):
                found[column] = kinds
        return found

    problems = Problems()
    for step in plan.steps:
        sources = [numbers(source) for source in step.sources]
        for field, message in (*_ordered(step, sources[0]), *_joined(step, sources)):
            problems.add(f"{place_of(step.spec.id)}.{field}", message)
    problems.raise_any()


def _numbers_in(plan: Plan, name: str, schema: pa.Schema) -> Mapping[str, pa.DataType]:
    columns = plan.inputs.get(name, {})
    return {
        field.name: field.type
        for field in schema
        if columns.get(field.name) == "string"
        and (pa.types.is_decimal(field.type) or pa.types.is_duration(field.type))
    }


@dataclass(frozen=True, slots=True)
class _Place:
    """An expression of a step; `orders` whether rows are ordered by its value."""

    field: str
    tree: Node
    orders: bool = False


def _places(step: PlannedStep) -> Iterator[_Place]:
    match step.spec:
        case Filter(where=where):
            yield _Place("where", Expression.parse(where).tree)
        case Map() as spec:
            for name, text in spec.set.items():
                yield _Place(f"set.{name[:40]}", Expression.parse(text).tree)
        case Generate(until=str(until)):
            yield _Place("until", Expression.parse(until).tree)
        case Reduce() as spec:
            for name, text in (spec.agg or {}).items():
                yield _Place(f"agg.{name[:40]}", Aggregate.parse(text).tree)
            pick = spec.pick or Pick()
            ways = {"pick.max": pick.max, "pick.min": pick.min, "pick.first": pick.first}
            for field, text in {"order_by": spec.order_by, **ways}.items():
                if text is not None:
                    orders = field != "pick.first"
                    yield _Place(field, Expression.parse(text).tree, orders)


def _ordered(step: PlannedStep, numbers: _Numbers) -> Iterator[tuple[str, str]]:
    """Tell of expressions in which numbers would be ordered, or held equal, as texts."""
    for place in _places(step) if numbers else ():
        found = [place.tree] if place.orders else []
        for node, _ in walk(place.tree):
            if isinstance(node, Call) and node.function in ("max", "min"):
                found += node.arguments
            elif isinstance(node, Compare):
                left = node.first
                for operator, right in node.rest:
                    if operator in _ORDERS or _differ(
                        _kinds(left, numbers), _kinds(right, numbers)
                    ):
                        found += (left, right)
                    left = right
        for column in dict.fromkeys(_column(node) for node in found):
            if column is not None and column in numbers:
                yield place.field, _in_words(f"row.{column}", numbers[column][0])


def _joined(step: PlannedStep, sources: list[_Numbers]) -> Iterator[tuple[str, str]]:
    """Tell of columns of two inputs that are never equal as texts."""
    if not isinstance(step.spec, Join):
        return
    on = step.spec.on
    names = [on] if isinstance(on, str) else on
    pairs = on.items() if isinstance(on, dict) else [(name, name) for name in names]
    left, right = sources
    for one, other in pairs:
        if _differ(left.get(one, ()), right.get(other, ())):
            yield (
                "on",
                f"{one} and {other} are decimals of other scales, {left[one][0]} and "
                f"{right[other][0]}: here they are text, and no two are equal; bring both to one "
                "scale in the inputs",
            )


def _differ(left: tuple[pa.DataType, ...], right: tuple[pa.DataType, ...]) -> bool:
    """Whether these are decimals of which none is written as one of the others."""
    one, other = ({getattr(kind, "scale", None) for kind in kinds} for kinds in (left, right))
    return bool(one and other) and None not in one | other and one.isdisjoint(other)


def _kinds(node: Node, numbers: _Numbers) -> tuple[pa.DataType, ...]:
    return numbers.get(_column(node) or "", ())


def _column(node: Node) -> str | None:
    match path_of(node):
        case ("row", column):
            return column
        case _:
            return None


def _in_words(called: str, kind: pa.DataType) -> str:
    way_out = f"write float({called})"
    if pa.types.is_duration(kind):
        way_out = "bring it as a number, such as its seconds"
    return f"{called} was {kind} in the input; here it is text, and ordered as texts are: {way_out}"
