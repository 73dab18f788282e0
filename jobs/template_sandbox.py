"""The fence around templates: which nodes, filters and methods there are, and where they pay.

Jinja's own sandbox keeps a template away from Python's insides. This one also bounds its work:
every loop, filter and comparison pays for the size of what it is given out of one budget per row.
"""

from collections.abc import Iterator
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from .template_budget import MAX_TEXT_CHARS, budget_of, size_of, weight_of
from .template_filters import (
    bounded_range,
    is_number,
    join,
    metered,
    metered_test,
    of_text,
    printable,
    replace,
    round_number,
    sum_numbers,
    to_json,
)

ROW = "row"
CUSTOM_ID = "custom_id"

_NODES: tuple[type[nodes.Node], ...] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.CondExpr),
    *(nodes.Assign, nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Call),
    *(nodes.Keyword, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos),
)
_FILTERS = (
    *("abs", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last"),
    *("length", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select"),
    *("selectattr", "sort", "unique"),
)
_TEXT_FILTERS = (
    *("capitalize", "lower", "string", "title", "trim", "truncate", "upper", "wordcount"),
)
_PLAIN_TESTS = (
    *("boolean", "defined", "divisibleby", "even", "false", "float", "integer", "iterable"),
    *("mapping", "none", "number", "odd", "sequence", "string", "true", "undefined"),
)
_COMPARING_TESTS = (
    *("==", "!=", "<", "<=", ">", ">=", "eq", "ne", "lt", "le", "gt", "ge", "equalto"),
    *("greaterthan", "lessthan", "in", "lower", "upper"),
)
_METHODS = frozenset(
    {
        *("strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize", "split"),
        *("splitlines", "startswith", "endswith", "removeprefix", "removesuffix", "find", "count"),
        *("get", "items", "keys", "values", "index"),
    }
)
_COMPARING_METHODS = frozenset({"count", "index"})  # all the way down
_METERED = "_metered"


class RowSandbox(ImmutableSandboxedEnvironment):
    """A Jinja environment in which a template can do bounded work on its row."""

    intercepted_binops = frozenset({"+", "*", "%", "**", "//"})

    def __init__(self) -> None:
        super().__init__(
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
            optimized=False,  # folding constants would compute them outside the budget
            finalize=printable,
        )
        self.globals = {"range": bounded_range}
        self.filters = {
            **{name: self.filters[name] for name in _FILTERS},
            **{name: of_text(self.filters[name]) for name in _TEXT_FILTERS},
            "join": join,
            "replace": of_text(replace),
            "round": round_number,
            "sum": sum_numbers,
            "tojson": to_json,
            _METERED: metered,
        }
        self.tests = {
            **{name: self.tests[name] for name in _PLAIN_TESTS},
            **{name: metered_test(self.tests[name]) for name in _COMPARING_TESTS},
        }

    def check(self, tree: nodes.Template) -> None:
        """Refuse what a template may not contain.

        Raises:
            jinja2.TemplateSyntaxError: at the first such place.
        """
        for node in _walk(tree):
            reason = _reason_against(node)
            if reason:
                raise jinja2.TemplateSyntaxError(reason, getattr(node, "lineno", 1))

    def meter(self, tree: nodes.Template) -> nodes.Template:
        """Rewrite a checked tree so that everything with a cost pays it."""
        for node in list(_walk(tree)):
            if isinstance(node, nodes.For):
                node.iter = _filtered(node.iter, _METERED)
            elif isinstance(node, nodes.Filter) and node.node is not None:
                node.node = _filtered(node.node, _METERED)
            elif isinstance(node, nodes.Compare | nodes.Operand):
                node.expr = _filtered(node.expr, _METERED)
            elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
                node.node = _filtered(node.node, _METERED)
        return cast(nodes.Template, _BoundedConcat().visit(tree))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Prefer a column to a method: `row.items` is the column `items` where there is one."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, str | list | dict | tuple | int | float) and attribute not in _METHODS:
            return self.undefined(f"there is no {attribute!r}", obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute an operator, unless it could make much out of little."""
        if operator == "+" and size_of(left) + size_of(right) > MAX_TEXT_CHARS:
            raise SecurityError(f"+ would make something longer than {MAX_TEXT_CHARS}")
        if operator in ("*", "%") and not (is_number(left) and is_number(right)):
            raise SecurityError(f"{operator} works on numbers only, in a template")
        budget_of(context).spend(1 + size_of(left) + size_of(right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call `range`, or a harmless method of a text, a list or an object."""
        if __obj is not bounded_range:
            owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
            if not isinstance(owner, str | list | dict) or name not in _METHODS:
                raise SecurityError(f"{name or __obj!r}() cannot be called in a template"[:200])
            budget = budget_of(__context)
            budget.spend(1 + size_of(owner))
            if name in _COMPARING_METHODS:
                budget.spend(weight_of(owner, budget.left) + weight_of(args, budget.left))
        return super().call(__context, __obj, *args, **kwargs)


def _reason_against(node: nodes.Node) -> str | None:
    if not isinstance(node, _NODES):
        return f"{type(node).__name__.lower()} is not available in a prompt template"
    if isinstance(node, nodes.For) and node.recursive:
        return "recursive loops are not available in a prompt template"
    if isinstance(node, nodes.Name) and (node.name.startswith("_") or node.name == "self"):
        return f"the name {node.name!r} is not available"
    if isinstance(node, nodes.Getattr) and node.attr.startswith("__") and not _is_row(node.node):
        return f"{node.attr!r} is out of a template's reach"
    if isinstance(node, nodes.Filter) and (node.node is None or node.name == _METERED):
        return "filter blocks are not available in a prompt template"
    return None


def _is_row(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == ROW  # a column may be called anything


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


class _BoundedConcat(NodeTransformer):
    """Turns `a ~ b ~ c` into a join, which minds its length; the operator itself does not."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "join")
