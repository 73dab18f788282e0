"""What an expression is made of, once it is understood. Plain data; knows no text and no value."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Comparison: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
Arithmetic: TypeAlias = Literal["+", "-", "*", "/", "//", "%", "~"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is written out."""

    position: int
    value: Scalar


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of what its items are."""

    position: int
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Name:
    """One of the names that there are: row, params, rows."""

    position: int
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """A field of an object, an item of a list, a character of a text."""

    position: int
    of: "Node"
    key: "Node"


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a list or a text."""

    position: int
    of: "Node"
    start: "Node | None"
    stop: "Node | None"


@dataclass(frozen=True, slots=True)
class Negative:
    """A number with its sign turned."""

    position: int
    of: "Node"


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a truth."""

    position: int
    of: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """Two values made into one."""

    position: int
    operator: Arithmetic
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Compare:
    """A chain of comparisons, all of which must hold: `1 < x <= 3`."""

    position: int
    first: "Node"
    rest: tuple[tuple[Comparison, "Node"], ...]


@dataclass(frozen=True, slots=True)
class Either:
    """`and`, `or`: the operand that decides, as in Jinja."""

    position: int
    operator: Literal["and", "or"]
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Conditional:
    """`a if c else b`."""

    position: int
    condition: "Node"
    yes: "Node"
    no: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or a filter, whose first argument stood before the bar."""

    position: int
    function: str
    arguments: tuple["Node", ...]
    attribute: tuple[str, ...] = ()  # of each item: `sum(attribute='a.b')`
    is_filter: bool = False


Node: TypeAlias = (
    Constant
    | ListOf
    | Name
    | Index
    | Slice
    | Negative
    | Not
    | Binary
    | Compare
    | Either
    | Conditional
    | Call
)


def children(node: Node) -> tuple[Node, ...]:
    """Return what a node is directly made of."""
    match node:
        case Constant() | Name():
            return ()
        case ListOf():
            return node.items
        case Index():
            return (node.of, node.key)
        case Slice():
            return tuple(each for each in (node.of, node.start, node.stop) if each is not None)
        case Negative() | Not():
            return (node.of,)
        case Binary() | Either():
            return (node.left, node.right)
        case Compare():
            return (node.first, *(operand for _, operand in node.rest))
        case Conditional():
            return (node.condition, node.yes, node.no)
        case Call():
            return node.arguments


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """Return all nodes, each before its children, with its depth; deep trees are no trouble."""
    todo = [(node, 1)]
    while todo:
        each, depth = todo.pop()
        yield each, depth
        todo.extend((child, depth + 1) for child in reversed(children(each)))


def path_of(node: Node) -> tuple[str, ...] | None:
    """Return `("row", "judge", "score")` of `row.judge.score`; None of what is no such path."""
    keys: list[str] = []
    while isinstance(node, Index):
        if not (isinstance(node.key, Constant) and isinstance(node.key.value, str)):
            return None
        keys.append(node.key.value)
        node = node.of
    return (node.name, *reversed(keys)) if isinstance(node, Name) else None


def paths_of(tree: Node) -> frozenset[tuple[str, ...]]:
    """Return the longest paths that a tree reads, from their names on."""
    found: set[tuple[str, ...]] = set()
    within: set[int] = set()  # nodes that are the beginning of a longer path
    for node, _ in walk(tree):
        path = path_of(node)
        if path is None or id(node) in within:
            continue
        found.add(path)
        while not isinstance(node, Name):
            node = node.of  # pyright: ignore[reportAttributeAccessIssue] a path is made of Index
            within.add(id(node))
    return frozenset(found)
