"""Understands the tokens of an expression: a Pratt parser. Knows which functions there are.

Each operator binds its operands with a strength of its own; a filter binds as in Jinja, more than
arithmetic does and less than a sign:

    if else < or < and < not < == != < <= > >= in < + - < ~ < * / // % < | is < sign < . [ (
"""

import math
from collections.abc import Iterable
from typing import cast

from .calls import call_problem
from .errors import ExpressionError
from .functions import FILTER_NAMES
from .token_reader import TokenReader
from .tokens import Token
from .tree import (
    Arithmetic,
    Binary,
    Call,
    Compare,
    Comparison,
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
    walk,
)

ROW_NAMES = frozenset({"row", "params"})
MAX_CHARS = 10_000
MAX_NESTING = 40  # parentheses in parentheses
MAX_DEPTH = 100  # of the tree: a + b + c + … is as deep as it is long
MAX_NODES = 2_000

_IF, _OR, _AND, _NOT, _COMPARE, _ADD, _CONCAT, _MULTIPLY, _FILTER, _SIGN = range(1, 11)
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_STRENGTH: dict[str, int] = {
    "if": _IF,
    "or": _OR,
    "and": _AND,
    "in": _COMPARE,
    "not": _COMPARE,  # as in `a not in b`
    **dict.fromkeys(_COMPARISONS, _COMPARE),
    "+": _ADD,
    "-": _ADD,
    "~": _CONCAT,
    **dict.fromkeys(("*", "/", "//", "%"), _MULTIPLY),
    "|": _FILTER,
    "is": _FILTER,
}
_CONSTANTS = {
    **dict.fromkeys(("true", "True"), True),
    **dict.fromkeys(("false", "False"), False),
    **dict.fromkeys(("null", "none", "None"), None),
}
_WORDS = frozenset({"if", "else", "or", "and", "not", "in", "is"})
_TESTS = frozenset({"none", "null", "None", "defined"})


def parse(text: str, names: frozenset[str], aggregates: frozenset[str] = frozenset()) -> Node:
    """Understand an expression, with or without `{{ }}` around it.

    Args:
        names: those it may use, such as row and params.
        aggregates: functions that may be called besides, with at most one argument.

    Raises:
        ExpressionError: it is none, or too large, or uses what there is not.
    """
    if len(text) > MAX_CHARS:
        raise ExpressionError(
            f"an expression may have {MAX_CHARS} characters, got {len(text)}", text, MAX_CHARS
        )
    bare = without_braces(text)
    if not bare.strip():
        raise ExpressionError("an expression is missing", bare, 0)
    tree = _Parser(bare, names, aggregates).whole()
    for count, (node, depth) in enumerate(walk(tree), 1):
        if depth > MAX_DEPTH:
            raise ExpressionError(
                f"more than {MAX_DEPTH} operations in a row; split them up", bare, node.position
            )
        if count > MAX_NODES:
            raise ExpressionError(f"it has more than {MAX_NODES} parts", bare, node.position)
    return tree


def without_braces(text: str) -> str:
    """Return an expression without the `{{ }}` that may stand around it."""
    stripped = text.strip()
    if stripped.startswith("{{") and stripped.endswith("}}") and len(stripped) >= 4:
        return stripped[2:-2].removeprefix("-").removesuffix("-").strip()
    return stripped


class _Parser:
    """Reads an expression; `strength` is how strongly the left neighbour binds."""

    def __init__(self, text: str, names: frozenset[str], aggregates: frozenset[str]) -> None:
        self._tokens = TokenReader(text)
        self._nesting = 0
        self._names = names
        self._aggregates = aggregates

    def whole(self) -> Node:
        node = self._expression(0)
        if self._tokens.current.kind != "end":
            self._tokens.unexpected("an operator")
        return node

    def _expression(self, strength: int) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self._tokens.fail(f"it is nested more than {MAX_NESTING} deep", self._tokens.current)
        left = self._operand()
        while self._tokens.current.kind in ("operator", "name"):
            binds = _STRENGTH.get(self._tokens.current.text, 0)
            if binds <= strength:
                break
            left = self._continued(left, binds)
        self._nesting -= 1
        return left

    def _continued(self, left: Node, binds: int) -> Node:
        """Read an operator and its right side."""
        if binds == _COMPARE:
            return self._comparisons(left)
        operator = self._tokens.take()
        match operator.text:
            case "if":
                condition = self._expression(_IF)
                self._tokens.expect("else")
                return Conditional(operator.position, condition, left, self._expression(_IF - 1))
            case "or" | "and" as word:
                return Either(operator.position, word, left, self._expression(binds))
            case "|":
                return self._filter(left)
            case "is":
                return self._test(left, operator)
            case sign:
                right = self._expression(binds)
                return Binary(operator.position, cast(Arithmetic, sign), left, right)

    def _comparisons(self, first: Node) -> Node:
        position = self._tokens.current.position
        rest: list[tuple[Comparison, Node]] = []
        while self._tokens.is_at("in", "not", *_COMPARISONS):
            word = self._tokens.take().text
            if word == "not":
                self._tokens.expect("in")
                word = "not in"
            rest.append((cast(Comparison, word), self._expression(_COMPARE)))
        return Compare(position, first, tuple(rest))

    def _operand(self) -> Node:
        """Read what stands to the left of an operator, with its own sign, fields and calls."""
        token = self._tokens.take()
        match token.kind, token.text:
            case "operator", "-":
                return Negative(token.position, self._expression(_SIGN))
            case "operator", "+":
                return self._expression(_SIGN)
            case "name", "not":
                return Not(token.position, self._expression(_NOT))
            case "operator", "(":
                node = self._expression(0)
                self._tokens.expect(")")
            case "operator", "[":
                node = ListOf(token.position, tuple(self._items("]")))
            case "number", _:
                node = Constant(token.position, self._number(token))
            case "text", _:
                node = Constant(token.position, token.text)
            case "name", _ if token.text in _CONSTANTS:
                node = Constant(token.position, _CONSTANTS[token.text])
            case "name", _ if token.text not in _WORDS:
                node = self._named(token)
            case _:
                self._tokens.refuse(token, "a value")
        return self._postfixed(node)

    def _postfixed(self, node: Node) -> Node:
        while self._tokens.is_at(".", "["):
            opening = self._tokens.take()
            if opening.text == ".":
                field = self._tokens.take()
                if field.kind != "name":
                    self._tokens.refuse(field, "the name of a field")
                if self._tokens.is_at("("):
                    self._tokens.fail(
                        f"there are no methods; say x | {field.text} or {field.text}(x)", field
                    )
                node = Index(field.position, node, Constant(field.position, field.text))
            else:
                node = self._subscript(node, opening)
        return node

    def _subscript(self, node: Node, opening: Token) -> Node:
        start = None if self._tokens.is_at(":") else self._expression(0)
        if self._tokens.is_at("]") and start is not None:
            self._tokens.take()
            return Index(opening.position, node, start)
        self._tokens.expect(":")
        stop = None if self._tokens.is_at("]") else self._expression(0)
        self._tokens.expect("]")
        return Slice(opening.position, node, start, stop)

    def _items(self, closing: str) -> Iterable[Node]:
        while not self._tokens.is_at(closing):
            yield self._expression(0)
            if not self._tokens.is_at(closing):
                self._tokens.expect(",")
        self._tokens.take()

    def _number(self, token: Token) -> int | float:
        value = float(token.text)
        if math.isfinite(value) and not token.text.isdigit():
            return value
        if value >= 2**64 or int(token.text) >= 2**63:
            self._tokens.fail(f"{token.text[:24]} is too large a number", token)
        return int(token.text)

    def _named(self, token: Token) -> Node:
        if self._tokens.is_at("("):
            return self._call(token)
        if token.text not in self._names:
            known = ", ".join(sorted(self._names))
            column = f"; a column is called row.{token.text}" if "row" in self._names else ""
            self._tokens.fail(f"unknown name {token.text!r} (known: {known}){column}", token)
        return Name(token.position, token.text)

    def _filter(self, left: Node) -> Node:
        token = self._tokens.take()
        if token.kind != "name":
            self._tokens.refuse(token, "the name of a filter")
        return self._call(token, left)

    def _test(self, left: Node, operator: Token) -> Node:
        is_opposite = self._tokens.is_at("not")
        if is_opposite:
            self._tokens.take()
        token = self._tokens.take()
        if token.text not in _TESTS:
            self._tokens.fail("after `is` may stand none, null or defined", token)
        is_null = Call(operator.position, "is_null", (left,))
        return is_null if is_opposite == (token.text == "defined") else Not(token.position, is_null)

    def _call(self, token: Token, piped: Node | None = None) -> Node:
        """Read the arguments of a function, or of a filter, whose first one stood before it."""
        is_filter = piped is not None
        arguments = [piped] if is_filter else []
        attribute: tuple[str, ...] = ()
        if not is_filter or self._tokens.is_at("("):
            self._tokens.expect("(")
            while not self._tokens.is_at(")"):
                if self._is_keyword():
                    attribute = self._attribute()
                else:
                    arguments.append(self._expression(0))
                if not self._tokens.is_at(")"):
                    self._tokens.expect(",")
            self._tokens.take()
        name = FILTER_NAMES.get(token.text, token.text) if is_filter else token.text
        if is_filter or name not in self._aggregates or len(arguments) > 1:
            problem = call_problem(token.text, name, len(arguments), has_attribute=bool(attribute))
            if problem is not None:
                self._tokens.fail(problem, token)
        elif attribute:
            self._tokens.fail("the attribute of an aggregate stands in its expression", token)
        return Call(token.position, name, tuple(arguments), attribute, is_filter)

    def _is_keyword(self) -> bool:
        following = self._tokens.following
        is_name = self._tokens.current.kind == "name"
        return is_name and (following.kind, following.text) == ("operator", "=")

    def _attribute(self) -> tuple[str, ...]:
        name = self._tokens.take()
        if name.text != "attribute":
            self._tokens.fail(
                f"there is no argument {name.text!r}; only `attribute` has a name", name
            )
        self._tokens.take()
        value = self._tokens.take()
        if value.kind != "text" or not all(value.text.split(".")):
            self._tokens.fail("attribute is a field in quotes, such as attribute='amount'", value)
        return tuple(value.text.split("."))
