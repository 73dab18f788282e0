"""JSON schemas for a model that writes: what they do not name, it is not to add. Knows no grammar.

A schema is open by default: an object may hold more than is named. To a checker that is harmless; a
model that is let write more goes on and on. Whatever fits the closed schema fits the open one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_MIXING = frozenset({"allOf", "if", "not", "dependentSchemas", "unevaluatedProperties"})
_LAYERS = frozenset({"anyOf", "oneOf", "$ref"})
_WANTING = frozenset(  # what a property of one layer may be there for, in another
    {
        *("properties", "patternProperties", "required", "minProperties", "propertyNames"),
        "dependentRequired",
    }
)


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
    todo = [schema]
    while todo:
        each = todo.pop()
        if isinstance(each, Mapping):
            yield each
            todo.extend(_inner(each))
        elif isinstance(each, list):  # items, as they were before prefixItems
            todo.extend(each)


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
    if not _MIXING.isdisjoint(schema):
        return True
    num_layers = sum(layer in schema for layer in _LAYERS)
    return num_layers > 1 or (num_layers == 1 and not _WANTING.isdisjoint(schema))


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
    if isinstance(made.get("properties"), dict) and not _wants_others(made):
        made.setdefault("additionalProperties", False)
    return made


def _wants_others(schema: Mapping[str, Any]) -> bool:
    """Return whether an object must hold, or hints at, more than the properties it names."""
    named = schema["properties"]
    required, at_least = schema.get("required"), schema.get("minProperties")
    names = required if isinstance(required, list) else []
    return (
        "patternProperties" in schema
        or any(not isinstance(name, str) or name not in named for name in names)
        or (isinstance(at_least, int) and at_least > len(named))
    )
