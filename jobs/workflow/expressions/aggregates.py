"""What `agg` is written in: expressions over the aggregates of a group, taken in row by row.

    count()   sum(row.hit) / count()   mean(row.j.verdict == 'correct') | round(3)

The expression of an aggregate is computed for each row. `sum`, `mean`, `min`, `max` and `majority`
leave nulls aside; of nothing, a sum is 0, `any` false, `all` true, and all others are null.
"""

from dataclasses import dataclass
from typing import Any, Self, TypeGuard

from .errors import EvaluationError, ExpressionError
from .evaluator import Scope, evaluated
from .folds import FOLDS
from .functions import FUNCTIONS
from .parser import ROW_NAMES, parse, without_braces
from .tree import Call, Name, Node, children, paths_of
from .types import BOOL, FLOAT, INT, Type
from .typing import TypeScope, Typing

AGGREGATES = frozenset(FOLDS)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An expression over aggregates that has been understood; `calls` are these."""

    text: str
    tree: Node
    calls: tuple[Call, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Understand a text.

        Raises:
            ExpressionError: it is no such expression, or reads a row outside an aggregate.
        """
        tree = parse(text, ROW_NAMES, AGGREGATES)
        bare = without_braces(text)
        calls: list[Call] = []
        todo = [tree]
        while todo:
            node = todo.pop()
            if _is_aggregate(node):
                calls.append(_checked(node, bare))
            elif isinstance(node, Name) and node.name == "row":
                raise ExpressionError(
                    "which row? Put it in an aggregate, such as mean(…) or first(…)",
                    *(bare, node.position),
                )
            else:
                todo.extend(children(node))
        if not calls:
            raise ExpressionError(
                f"there is no aggregate in it; known: {', '.join(sorted(AGGREGATES))}", bare, 0
            )
        return cls(bare, tree, tuple(calls))

    @property
    def columns(self) -> frozenset[tuple[str, ...]]:
        """Return what it reads of the rows: `("judge", "score")`."""
        return frozenset(path[1:] for path in paths_of(self.tree) if path[0] == "row")

    def type_in(self, scope: TypeScope) -> Type:
        """Return the type that its value will have.

        Raises:
            ExpressionError: it names a field that cannot be, or can never have a value.
        """
        typing = Typing(self.text, scope)
        types = {call.position: self._type_of(call, typing) for call in self.calls}
        return Typing(self.text, scope, types).type_of(self.tree)

    def new(self) -> "Accumulator":
        """Begin a group."""
        return Accumulator(self)

    def _type_of(self, call: Call, typing: Typing) -> Type:
        if call.function == "count":
            return INT
        of = typing.type_of(call.arguments[0]).without_values()
        match call.function:
            case "sum" | "mean" if not (of.is_number or of.kind in ("any", "null")):
                problem = f"{call.function} takes numbers, got {of.in_words}"
                raise ExpressionError(problem, self.text, call.position)
            case "sum":
                return INT if of.kind == "bool" else of
            case "mean":
                return FLOAT
            case "any" | "all":
                return BOOL
            case "list":
                return Type("list", item=of)
            case "min" | "max" if of.kind in ("bool", "list", "object", "vector"):
                problem = f"{call.function} takes numbers or texts, got {of.in_words}"
                raise ExpressionError(problem, self.text, call.position)
            case _:
                return of


class Accumulator:
    """What is kept of a group while its rows stream past."""

    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._folds = [FOLDS[call.function]() for call in aggregate.calls]
        self._params: Any = {}

    def add(self, scope: Scope) -> None:
        """Take in a row.

        Raises:
            EvaluationError: an expression has no value for it, or the group grows too large.
        """
        text = self._aggregate.text
        self._params = scope.get("params", {})
        for call, fold in zip(self._aggregate.calls, self._folds, strict=True):
            value = evaluated(text, call.arguments[0], scope) if call.arguments else None
            try:
                fold.add(value)
            except EvaluationError as error:
                raise EvaluationError(error.problem, text, call.position) from None

    def result(self) -> Any:
        """Return the value for the group.

        Raises:
            EvaluationError: it has none.
        """
        aggregate = self._aggregate
        pairs = zip(aggregate.calls, self._folds, strict=True)
        values = {call.position: fold.result() for call, fold in pairs}
        return evaluated(aggregate.text, aggregate.tree, {"params": self._params}, values)


def _is_aggregate(node: Node) -> TypeGuard[Call]:
    return (
        isinstance(node, Call)
        and node.function in AGGREGATES
        and not node.is_filter
        and len(node.arguments) <= 1  # max(a, b) is the function of that name
    )


def _checked(node: Call, text: str) -> Call:
    if (node.function == "count") == bool(node.arguments):
        wants = (
            "nothing; sum(…) counts where something holds" if node.arguments else "an expression"
        )
        raise ExpressionError(f"{node.function} takes {wants}", text, node.position)
    todo = list(node.arguments)
    while todo:
        inner = todo.pop()
        if _is_aggregate(inner) and inner.function not in FUNCTIONS:  # min is a function as well
            raise ExpressionError("an aggregate cannot hold another", text, inner.position)
        todo.extend(children(inner))
    return node
