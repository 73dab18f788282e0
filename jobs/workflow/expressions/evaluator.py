"""Computes an expression for one row. Knows no text: whoever calls points at the place."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from .errors import EvaluationError, shown
from .functions import FUNCTIONS
from .lists import attributes
from .tree import (
    Binary,
    Call,
    Compare,
    Conditional,
    Constant,
    Either,
    Index,
    ListOf,
    Name,
    Negative,
    Node,
    Not,
    Slice,
)
from .values import Budget, bounded, compared, computed, field_of, is_number
from .wanted import IN_WORDS, is_wanted

Scope: TypeAlias = Mapping[str, Any]


class Fault(Exception):
    """A node has no value; where it stands in the text is for the outermost to show."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(problem)
        self.position = position


def evaluated(
    text: str, tree: Node, scope: Scope, aggregates: Mapping[int, Any] | None = None
) -> Any:
    """Compute a tree that was read from a text.

    Raises:
        EvaluationError: it has no value; the message points at the place.
    """
    try:
        return Evaluator(scope, aggregates).value_of(tree)
    except Fault as fault:
        raise EvaluationError(str(fault), text, fault.position) from None


class Evaluator:
    """Evaluates trees over one scope, out of one budget.

    `aggregates` are the values of calls that have been computed before, by their positions.
    """

    def __init__(self, scope: Scope, aggregates: Mapping[int, Any] | None = None) -> None:
        self._scope = scope
        self._aggregates = aggregates or {}
        self._budget = Budget()

    def value_of(self, node: Node) -> Any:
        """Compute a node.

        Raises:
            Fault: it has no value.
        """
        try:
            self._budget.spend(1)
            return _EVALUATE[type(node)](self, node)
        except EvaluationError as error:
            raise Fault(error.problem, node.position) from None

    def _literal(self, node: Constant) -> Any:
        return node.value

    def _list(self, node: ListOf) -> list[Any]:
        return [self.value_of(item) for item in node.items]

    def _name(self, node: Name) -> Any:
        if node.name not in self._scope:
            raise EvaluationError(f"there is no {node.name} here")
        return self._scope[node.name]

    def _index(self, node: Index) -> Any:
        return field_of(self.value_of(node.of), self.value_of(node.key))

    def _slice(self, node: Slice) -> Any:
        whole = self.value_of(node.of)
        bounds = [each and self.value_of(each) for each in (node.start, node.stop)]
        if whole is None:
            return None
        if not isinstance(whole, str | list):
            raise EvaluationError(f"{shown(whole)} cannot be sliced")
        if not all(each is None or type(each) is int for each in bounds):
            raise EvaluationError("a slice goes from one whole number to another")
        part = whole[slice(*bounds)]
        self._budget.spend(len(part))
        return part

    def _negative(self, node: Negative) -> int | float:
        value = self.value_of(node.of)
        if not is_number(value):
            raise EvaluationError(f"- does not work on {shown(value)}")
        return bounded(-value)

    def _not(self, node: Not) -> bool:
        return not self.value_of(node.of)

    def _binary(self, node: Binary) -> Any:
        left, right = self.value_of(node.left), self.value_of(node.right)
        return computed(node.operator, left, right, self._budget)

    def _compare(self, node: Compare) -> bool:
        left = self.value_of(node.first)
        for operator, operand in node.rest:
            right = self.value_of(operand)
            if not compared(operator, left, right, self._budget):
                return False
            left = right
        return True

    def _either(self, node: Either) -> Any:
        left = self.value_of(node.left)
        if bool(left) == (node.operator == "or"):
            return left
        return self.value_of(node.right)

    def _conditional(self, node: Conditional) -> Any:
        return self.value_of(node.yes if self.value_of(node.condition) else node.no)

    def _call(self, node: Call) -> Any:
        if node.position in self._aggregates:
            return self._aggregates[node.position]
        function = FUNCTIONS[node.function]
        values = [self.value_of(argument) for argument in node.arguments]
        if node.attribute:
            if not isinstance(values[0], list):
                raise EvaluationError(f"{shown(values[0])} is no list, and has no attributes")
            values[0] = attributes(self._budget, values[0], node.attribute)
        for index, value in enumerate(values):
            wanted = function.wanted(index)
            if not is_wanted(wanted, value):
                raise EvaluationError(
                    f"{node.function} takes {IN_WORDS[wanted]}, got {shown(value)}"
                )
        return function.call(self._budget, *values)


def _entry(method: Callable[..., Any]) -> Callable[[Evaluator, Node], Any]:
    return cast(Callable[[Evaluator, Node], Any], method)


_EVALUATE: Mapping[type, Callable[[Evaluator, Node], Any]] = {
    Constant: _entry(Evaluator._literal),
    ListOf: _entry(Evaluator._list),
    Name: _entry(Evaluator._name),
    Index: _entry(Evaluator._index),
    Slice: _entry(Evaluator._slice),
    Negative: _entry(Evaluator._negative),
    Not: _entry(Evaluator._not),
    Binary: _entry(Evaluator._binary),
    Compare: _entry(Evaluator._compare),
    Either: _entry(Evaluator._either),
    Conditional: _entry(Evaluator._conditional),
    Call: _entry(Evaluator._call),
}
