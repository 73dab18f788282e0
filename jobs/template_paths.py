"""Which columns and fields a template reads, followed through loops and `set`. Knows no values.

    {{ row.judge.score }}                            row, judge, score
    {% for r in rows %}{{ r.part }}{% endfor %}      rows, an item, part
    {{ row.lines | sum(attribute='amount') }}        row, lines, an item, amount

What cannot be followed is left out: a path that is named is certain to be read as such.
"""

from collections.abc import Iterator
from typing import TypeAlias

from jinja2 import nodes

TemplatePath: TypeAlias = tuple[str | None, ...]  # from a name on; None is an item of a list
_Scope: TypeAlias = dict[str, TemplatePath | None]

_SAME_ITEMS = frozenset({"list", "sort", "reverse", "unique", "select", "reject"})
_ATTRIBUTE_FIRST = frozenset({"selectattr", "rejectattr"})


def template_paths(tree: nodes.Template, names: frozenset[str]) -> frozenset[TemplatePath]:
    """Return what a template reads, from these names on."""
    found: set[TemplatePath] = set()
    _visit(tree, {name: (name,) for name in names}, found)
    return frozenset(found)


def _visit(node: nodes.Node, scope: _Scope, found: set[TemplatePath]) -> None:
    path = _path(node, scope)
    if path is not None:
        found.add(path)
    match node:
        case nodes.For():
            _visit_loop(node, scope, found)
        case nodes.If():
            _visit_branches(node, scope, found)
        case nodes.Assign(target=nodes.Name(name=name)):
            _visit(node.node, scope, found)
            scope[name] = _path(node.node, scope)
        case nodes.Call(node=nodes.Getattr() as method):  # row.text.upper(): no field `upper`
            _visit(method.node, scope, found)
            for argument in (*node.args, *node.kwargs):
                _visit(argument, scope, found)
        case nodes.Getattr() | nodes.Getitem() if path is not None:
            _visit_inner(node, scope, found)
        case _:
            if isinstance(node, nodes.Filter):
                found.update(_attributes(node, scope))
            for child in node.iter_child_nodes():
                _visit(child, scope, found)
            for name in _assigned(node) if isinstance(node, nodes.Assign) else ():
                scope[name] = None


def _visit_inner(
    node: nodes.Getattr | nodes.Getitem, scope: _Scope, found: set[TemplatePath]
) -> None:
    """Look at what stands in the brackets of a path; its beginning is part of it."""
    inner: nodes.Node = node
    while isinstance(inner, nodes.Getattr | nodes.Getitem):
        if isinstance(inner, nodes.Getitem):
            _visit(inner.arg, scope, found)
        inner = inner.node
    if not isinstance(inner, nodes.Name):
        _visit(inner, scope, found)


def _visit_loop(node: nodes.For, scope: _Scope, found: set[TemplatePath]) -> None:
    _visit(node.iter, scope, found)
    inner = dict(scope)
    for name in _names(node.target):
        inner[name] = None
    path = _path(node.iter, scope)
    if path is not None and isinstance(node.target, nodes.Name):
        inner[node.target.name] = (*path, None)
    for name in (each for part in node.body for each in _assigned(part)):
        inner[name] = None  # what it is in the next turn, is not known
    for part in (*([node.test] if node.test else ()), *node.body):
        _visit(part, inner, found)
    for part in node.else_:
        _visit(part, dict(scope), found)


def _visit_branches(node: nodes.If, scope: _Scope, found: set[TemplatePath]) -> None:
    _visit(node.test, scope, found)
    for branch in (node.body, node.elif_, node.else_):
        inner = dict(scope)
        for part in branch:
            _visit(part, inner, found)
    for name in _assigned(node):
        scope[name] = None


def _path(node: nodes.Node, scope: _Scope) -> TemplatePath | None:
    """Return the path that a node is, if it is nothing else."""
    match node:
        case nodes.Name(name=name, ctx="load"):
            return scope.get(name)
        case nodes.Getattr(node=of, attr=attribute):
            path = _path(of, scope)
            return path and (*path, attribute)
        case nodes.Getitem(node=of, arg=nodes.Const(value=str() | int() as key)):
            path = _path(of, scope)
            return path and (*path, key if isinstance(key, str) else None)
        case nodes.Getitem(node=of, arg=nodes.Slice()):
            return _path(of, scope)
        case nodes.Filter(node=nodes.Node() as of, name=name) if name in _SAME_ITEMS:
            return _path(of, scope)
        case nodes.Filter(node=nodes.Node() as of, name=name) if name in _ATTRIBUTE_FIRST:
            return _path(of, scope)
        case nodes.Filter(node=nodes.Node() as of, name="first" | "last"):
            path = _path(of, scope)
            return path and (*path, None)
    return None


def _attributes(node: nodes.Filter, scope: _Scope) -> Iterator[TemplatePath]:
    """Yield what a filter reads of each item: `sum(attribute='amount')`."""
    path = _path(node.node, scope) if node.node is not None else None
    if path is None:
        return
    named = [pair.value for pair in node.kwargs if pair.key == "attribute"]
    first = node.args[:1] if node.name in _ATTRIBUTE_FIRST else []
    for each in (*named, *first):
        if isinstance(each, nodes.Const) and isinstance(each.value, str):
            keys = (None if key.isdigit() else key for key in each.value.split("."))
            yield (*path, None, *keys)


def _assigned(node: nodes.Node) -> Iterator[str]:
    for each in (node, *node.find_all(nodes.Assign)):
        if isinstance(each, nodes.Assign):
            yield from _names(each.target)


def _names(target: nodes.Node) -> Iterator[str]:
    for each in (target, *target.find_all(nodes.Name)):
        if isinstance(each, nodes.Name):
            yield each.name
