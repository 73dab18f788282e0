"""On which line of its file a part of a workflow stands. Knows how problems name a part, as in
`steps.judge.prompt` or `steps[2].size`, and nothing of what is wrong there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .client_errors import InvalidInput
from .home_path import at_home
from .workflow_yaml import compose_yaml


@dataclass(frozen=True, slots=True)
class _Part:
    """A part under one of its names, beginning at a line."""

    name: str
    line: int
    node: Node


@dataclass(frozen=True, slots=True)
class WorkflowLines:
    """What stands in a file, and where; of a file that cannot be read, nothing does."""

    root: Node | None

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file of YAML or JSON, unless it is a pipe, which gives all only once."""
        try:
            path = at_home(path)
            return cls(compose_yaml(path.read_bytes()) if path.is_file() else None)
        except (OSError, InvalidInput):  # it has changed, or is JSON that is no YAML
            return cls(None)

    def line_of(self, where: str) -> int | None:
        """Return the line, from 1, of a part, or of the innermost around it that is written down.

        None where not even its outermost is.
        """
        node, rest, line = self.root, where, None
        while rest and (part := _first_part(node, rest)) is not None:
            node, line = part.node, part.line
            rest = rest[len(part.name) :].removeprefix(".")
        return line


def _first_part(node: Node | None, place: str) -> _Part | None:
    """Find the part of a node that a place leads to; keys may hold dots, so the longest name wins.

    Of two steps under one id it is the second, which is one too many.
    """
    found = [
        part
        for part in _parts_of(node)
        if place.startswith(part.name) and place[len(part.name) :][:1] in ("", ".", "[")
    ]
    return max(reversed(found), key=lambda part: len(part.name), default=None)


def _parts_of(node: Node | None) -> Iterator[_Part]:
    """Yield what a mapping or a list holds; an item of a list by its number, and by its id."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value:
                yield _Part(key.value, key.start_mark.line + 1, value)
    elif isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            line = item.start_mark.line + 1
            yield _Part(f"[{number}]", line, item)
            for part in _parts_of(item) if isinstance(item, MappingNode) else ():
                if part.name == "id" and isinstance(part.node, ScalarNode) and part.node.value:
                    yield _Part(part.node.value, line, item)
