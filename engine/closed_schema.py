"""JSON schemas for a model that writes: what they do not name, it is not to add. Knows no grammar.

A schema is open by default: an object may hold more than is named. To a checker that is harmless; a
model that is let write more goes on and on. Whatever fits the closed schema fits the open one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_SINGLE = ("items",)
_MIXING = frozenset({"allOf", "if", "not", "dependentSchemas", "unevaluatedProperties"})
_BESIDE = frozenset({"anyOf", "oneOf", "$ref"})


def closed_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Close every object that names its properties and does not say whether others may be there.

    Where schemas are laid over each other nothing is closed: one might exclude what another wants.
    """
    try:
        if any(_is_mixed(each) for each in _walk(schema)):
            return dict(schema)
        return _closed(schema)
    except RecursionError:  # the grammar's compiler will say what it thinks of it
        return dict(schema)


def _walk(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
        for inner in _inner(schema):
            yield from _walk(inner)


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    for key in _MAPS:
        if isinstance(schema.get(key), Mapping):
            yield from schema[key].values()
    for key in _LISTS:
        if isinstance(schema.get(key), list):
            yield from schema[key]
    for key in _SINGLE:
        yield schema.get(key)


def _is_mixed(schema: Mapping[str, Any]) -> bool:
    has_own = "properties" in schema
    return not _MIXING.isdisjoint(schema) or (has_own and not _BESIDE.isdisjoint(schema))


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    made = dict(schema)
    for key in _MAPS:
        if isinstance(made.get(key), Mapping):
            made[key] = {name: _closed(each) for name, each in made[key].items()}
    for key in _LISTS:
        if isinstance(made.get(key), list):
            made[key] = [_closed(each) for each in made[key]]
    for key in _SINGLE:
        if key in made:
            made[key] = _closed(made[key])
    if isinstance(made.get("properties"), dict) and "patternProperties" not in made:
        required = made.get("required")
        if not isinstance(required, list) or all(name in made["properties"] for name in required):
            made.setdefault("additionalProperties", False)
    return made
