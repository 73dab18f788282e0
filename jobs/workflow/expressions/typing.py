"""What an expression will give, and what it can never do, found out before there is a row.

Where little is known of a value nothing is complained of; what is certain to be wrong is.
"""

from collections.abc import Mapping
from typing import TypeAlias

from .errors import ExpressionError, nearest, shown
from .functions import FUNCTIONS
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
    path_of,
)
from .types import ANY, BOOL, FLOAT, INT, NULL, TEXT, Type, joined
from .wanted import IN_WORDS, may_be_wanted

TypeScope: TypeAlias = Mapping[str, Type]


_ALIKE = (frozenset({"int64", "float64"}), frozenset({"list", "vector"}))


class NoSuchField(ValueError):
    """A value has no such field, for certain; the message suggests the nearest."""


def field_type(of: Type, key: str | None, called: str) -> Type:
    """Return the type of a field, or with None as key of an item.

    Args:
        called: what the value is called, for the message.

    Raises:
        NoSuchField: there can be none.
    """
    if key is None:
        if of.kind in ("list", "vector"):
            return of.item or ANY
        if of.kind in ("any", "null", "string", "object"):
            return TEXT if of.kind == "string" else ANY
        raise NoSuchField(f"{called} is {of.in_words}; it has no items")
    if of.kind in ("any", "null"):
        return ANY
    if of.kind != "object":
        raise NoSuchField(f"{called} is {of.in_words}; it has no field {key!r}")
    if key in of.fields:
        return of.fields[key]
    if of.is_open:
        return ANY
    what = "column" if called == "row" else "field"
    known = nearest(key, of.fields) or f"; known: {', '.join(sorted(of.fields))[:200] or 'none'}"
    raise NoSuchField(f"{called} has no {what} {key!r}{known}")


class Typing:
    """Finds the types of nodes; `text` is what they were read from."""

    def __init__(self, text: str, scope: TypeScope, aggregates: Mapping[int, Type] | None = None):
        self._text = text
        self._scope = scope
        self._aggregates = aggregates or {}

    def type_of(self, node: Node) -> Type:
        """Return the type of a node.

        Raises:
            ExpressionError: it can have no value.
        """
        match node:
            case Constant():
                return Type.of_value(node.value)
            case ListOf():
                return Type.list_of([self.type_of(item) for item in node.items])
            case Name():
                return self._scope.get(node.name, ANY)
            case Index():
                return self._index(node)
            case Slice():
                return self._slice(node)
            case Negative():
                return self._number(self.type_of(node.of), "-", node)
            case Not():
                self.type_of(node.of)
                return BOOL
            case Binary():
                return self._binary(node)
            case Compare():
                return self._compare(node)
            case Either():
                return joined([self.type_of(node.left), self.type_of(node.right)])
            case Conditional():
                self.type_of(node.condition)
                return joined([self.type_of(node.yes), self.type_of(node.no)])
            case Call():
                return self._call(node)

    def _fail(self, problem: str, node: Node) -> ExpressionError:
        return ExpressionError(problem, self._text, node.position)

    def _index(self, node: Index) -> Type:
        of, key = self.type_of(node.of), self.type_of(node.key)
        literal = node.key.value if isinstance(node.key, Constant) else None
        if of.kind == "object" and not (isinstance(literal, str) or key.kind in ("string", "any")):
            raise self._fail("a field of an object is named by a text", node)
        is_item = not isinstance(literal, str) or of.kind in ("list", "vector", "string")
        if (
            is_item
            and key.kind not in ("int64", "any", "null")
            and of.kind not in ("object", "any")
        ):
            raise self._fail(f"{_called(node.of)} is {of.in_words}; it has no fields", node)
        try:
            return field_type(of, None if is_item else str(literal), _called(node.of))
        except NoSuchField as error:
            raise self._fail(str(error), node) from None

    def _slice(self, node: Slice) -> Type:
        of = self.type_of(node.of)
        for bound in (node.start, node.stop):
            if bound is not None and self.type_of(bound).kind not in ("int64", "any", "null"):
                raise self._fail("a slice goes from one whole number to another", bound)
        if of.kind not in ("string", "list", "vector", "any", "null"):
            raise self._fail(f"{of.in_words} cannot be sliced", node)
        return of.without_values()

    def _number(self, of: Type, operator: str, node: Node) -> Type:
        if not of.is_number and of.kind != "any":
            raise self._fail(f"{operator} does not work on {of.in_words}", node)
        return INT if of.kind == "bool" else of.without_values()

    def _binary(self, node: Binary) -> Type:
        left, right = self.type_of(node.left), self.type_of(node.right)
        kinds = {left.kind, right.kind}
        if node.operator == "~":
            for each in (left, right):
                if each.kind in ("list", "object", "vector", "null"):
                    raise self._fail(f"~ does not work on {each.in_words}", node)
            return TEXT
        if node.operator == "+" and left.kind == right.kind and left.kind in ("string", "list"):
            return joined([left, right]).without_values()
        is_any = "any" in kinds
        if all(each.is_number or each.kind == "any" for each in (left, right)):
            if node.operator == "/" and not is_any:
                return FLOAT
            return ANY if is_any else (FLOAT if "float64" in kinds else INT)
        if is_any and node.operator == "+" and kinds <= {"any", "string", "list"}:
            return ANY
        raise self._fail(
            f"{node.operator} does not work on {left.in_words} and {right.in_words}", node
        )

    def _compare(self, node: Compare) -> Type:
        left = self.type_of(node.first)
        for operator, operand in node.rest:
            right = self.type_of(operand)
            if operator in ("in", "not in"):
                self._check_in(left, right, operand, node)
            elif operator in ("==", "!="):
                self._check_equal(left, right, node)
            elif not _have_order(left, right):
                raise self._fail(
                    f"{left.in_words} and {right.in_words} have no order ({operator})", node
                )
            left = right
        return BOOL

    def _check_in(self, left: Type, right: Type, of: Node, node: Compare) -> None:
        if isinstance(of, ListOf):
            for item in of.items:
                self._check_equal(left, self.type_of(item), item)
        elif right.kind in ("list", "vector") and right.item is not None:
            self._check_kinds(left, right.item, node)
        elif right.kind not in ("string", "list", "vector", "object", "any", "null"):
            raise self._fail(f"nothing can be in {right.in_words}", node)

    def _check_equal(self, left: Type, right: Type, node: Node) -> None:
        """Refuse `row.kind == 'invoise'` where all kinds are known."""
        for one, other in ((left, right), (right, left)):
            if one.values is None or other.values is None or not other.is_form:
                continue
            if set(one.values).isdisjoint(other.values):
                possible = ", ".join(shown(each) for each in other.values[:12])
                raise self._fail(f"it is never {shown(one.values[0])}, only {possible}", node)
        self._check_kinds(left, right, node)

    def _check_kinds(self, left: Type, right: Type, node: Node) -> None:
        if not _may_be_equal(left, right):
            raise self._fail(f"{left.in_words} and {right.in_words} are never equal", node)

    def _call(self, node: Call) -> Type:
        if node.position in self._aggregates:
            return self._aggregates[node.position]
        function = FUNCTIONS[node.function]
        types = [self.type_of(argument) for argument in node.arguments]
        if node.attribute:
            types[0] = self._attribute(types[0], node)
        for index, given in enumerate(types):
            wanted = function.wanted(index)
            if not may_be_wanted(wanted, given):
                raise self._fail(
                    f"{node.function} takes {IN_WORDS[wanted]}, got {given.in_words}", node
                )
        return function.type_of(types)

    def _attribute(self, of: Type, node: Call) -> Type:
        item = of.item or ANY
        called = f"an item of {_called(node.arguments[0])}"
        for name in node.attribute:
            try:
                item = field_type(item, name, called)
            except NoSuchField as error:
                raise self._fail(str(error), node) from None
            called = f"{called}.{name}"
        return Type("list", item=item) if of.kind in ("list", "vector", "any") else of


def _called(node: Node) -> str:
    path = path_of(node)
    return ".".join(path) if path else "the value"


def _have_order(left: Type, right: Type) -> bool:
    if "any" in (left.kind, right.kind) or NULL in (left, right):
        return True
    return (left.is_number and right.is_number) or left.kind == right.kind == "string"


def _may_be_equal(left: Type, right: Type) -> bool:
    kinds = {left.kind, right.kind}
    return len(kinds) == 1 or bool(kinds & {"any", "null"}) or kinds in _ALIKE
