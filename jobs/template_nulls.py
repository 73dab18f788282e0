"""What is null of all that a template reads. Knows paths and values, no syntax tree."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .template_paths import TemplatePath

_MOST_NAMED = 5


def null_words(paths: Iterable[TemplatePath], scope: Mapping[str, Any]) -> str:
    """Name which of these paths are null, as a template spells them; "" where none is."""
    named = sorted(_spelled(path) for path in paths if any(_is_null(path, scope)))
    if not named:
        return ""
    rest = len(named) - _MOST_NAMED
    return ", ".join(named[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _is_null(path: TemplatePath, scope: Mapping[str, Any]) -> Iterator[bool]:
    """Tell of each value that a path leads to whether it is null."""
    values: Iterable[Any] = [scope]
    for key in path:
        values = _inside(values, key)
    return (value is None for value in values)


def _inside(values: Iterable[Any], key: str | None) -> Iterator[Any]:
    for value in values:
        if key is None and isinstance(value, list):
            yield from value
        elif key is not None and isinstance(value, Mapping) and key in value:
            yield value[key]


def _spelled(path: TemplatePath) -> str:
    name, *keys = path
    return str(name) + "".join(_step(key) for key in keys)


def _step(key: str | None) -> str:
    if key is None:
        return "[]"
    return f".{key}" if key.isidentifier() else f"[{key!r}]"
