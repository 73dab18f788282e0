"""Whether a JSON Schema says something at all: its types are types, its lists are lists. Knows no
grammar: what is well formed and cannot be held to all the same is found where one is compiled.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ..engine.sampling_params import InvalidSampling

_TYPES = ("string", "integer", "number", "boolean", "null", "object", "array")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains")


def check_words(param: str, schema: Mapping[str, Any]) -> None:
    """Refuse a schema that no answer can be held to, whatever the answer.

    Raises:
        InvalidSampling: a word of it has a value that JSON Schema has no meaning for; the message
            says where.
    """
    todo: list[tuple[str, Any]] = [("", schema)]
    while todo:
        path, each = todo.pop()
        if isinstance(each, bool):
            continue
        if not isinstance(each, Mapping):
            raise _invalid(param, path or "the schema", "must be a schema", each)
        _check_type(param, f"{path}.type".lstrip("."), each)
        todo.extend(_inner(param, f"{path}." if path else "", each))


def _check_type(param: str, path: str, schema: Mapping[str, Any]) -> None:
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            near = get_close_matches(str(kind), _TYPES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise _invalid(param, path, f"must be one of {', '.join(_TYPES)}", kind, hint)


def _inner(param: str, path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for word in _MAPS:
        if not isinstance(schema.get(word, {}), Mapping):
            raise _invalid(param, path + word, "must be an object", schema[word])
        yield from ((f"{path}{word}.{name}", each) for name, each in schema.get(word, {}).items())
    for word in (*_LISTS, "enum", "required"):
        if not isinstance(schema.get(word, []), list):
            raise _invalid(param, path + word, "must be a list", schema[word])
    for word in _LISTS:
        yield from ((f"{path}{word}[{at}]", each) for at, each in enumerate(schema.get(word, ())))
    for word in _SINGLE:
        inner = schema.get(word, True)  # items may be a list, as before there was prefixItems
        yield from ((path + word, each) for each in (inner if isinstance(inner, list) else [inner]))
    if schema.get("enum") == []:
        raise _invalid(param, f"{path}enum", "must name at least one value", [])


def _invalid(param: str, where: str, must: str, got: Any, hint: str = "") -> InvalidSampling:
    return InvalidSampling(
        param, f"has a schema that is none: {where} {must}, got {str(got)[:60]!r}{hint}"
    )
