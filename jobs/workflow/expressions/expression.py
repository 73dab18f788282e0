"""Expressions: what `where`, `set`, `until` and the like are written in. Knows no step.

    row.judge.score >= params.min_score and row.answer | trim != ''
    (row.fields.total - row.fields.lines | sum(attribute='amount')) | abs < 0.01

A language of our own, so that a text can do no more than it says here: literals and lists, `row`,
`params` (and `rows`), fields, items, slices, arithmetic, comparisons, `and or not`, `a if c else
b`, and the functions of `expression_functions`, also written as filters, with Jinja's precedence.

A field that is not there is null, and so is a field of null. null equals null only, and is neither
less nor more than anything; to compute with it is that row's error. All work is bounded.
"""

from dataclasses import dataclass
from typing import Any, Self

from .aggregates import Aggregate
from .errors import EvaluationError, ExpressionError
from .evaluator import Scope, evaluated
from .parser import ROW_NAMES, parse, without_braces
from .tree import Node, paths_of
from .types import Type
from .typing import TypeScope, Typing

__all__ = ["ROW_NAMES", "Aggregate", "EvaluationError", "Expression", "ExpressionError"]


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that has been understood.

    Attributes:
        text: as it was written, without braces.
    """

    text: str
    tree: Node

    @classmethod
    def parse(cls, text: str, *, names: frozenset[str] = ROW_NAMES) -> Self:
        """Understand a text.

        Raises:
            ExpressionError: it is no expression, or one that is too large.
        """
        return cls(without_braces(text), parse(text, names))

    @property
    def paths(self) -> frozenset[tuple[str, ...]]:
        """Return what it reads, from the name on: `("row", "judge", "score")`."""
        return paths_of(self.tree)

    @property
    def columns(self) -> frozenset[tuple[str, ...]]:
        """Return what it reads of its row: `("judge", "score")`; `()` where it reads all of it."""
        return frozenset(path[1:] for path in self.paths if path[0] == "row")

    def type_in(self, scope: TypeScope) -> Type:
        """Return the type that its value will have.

        Raises:
            ExpressionError: it names a field that cannot be, or can never have a value.
        """
        return Typing(self.text, scope).type_of(self.tree)

    def evaluate(self, scope: Scope) -> Any:
        """Compute its value.

        Raises:
            EvaluationError: for this row it has none.
        """
        return evaluated(self.text, self.tree, scope)
