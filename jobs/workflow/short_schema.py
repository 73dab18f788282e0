"""A short way to write the schema of a document, and what it stands for in JSON Schema.

    {score: int, reason: str, verdict: "enum[right,wrong]", tags: "list[str]", note: str?}

A name stands for a type; `enum[…]` for one of some texts; `list[…]`, or a YAML list of one type,
for a list; a mapping for an object; `…?` for what may be null. Every field is always there.
"""

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16

_NAMES: Mapping[str, Mapping[str, Any]] = {
    **{name: {"type": "string"} for name in ("str", "string", "text")},
    **{name: {"type": "integer"} for name in ("int", "integer")},
    **{name: {"type": "number"} for name in ("float", "number")},
    **{name: {"type": "boolean"} for name in ("bool", "boolean")},
}
_ONLY_LONG = frozenset({"object", "array", "null"})  # types that have no short name
_LONG = frozenset({"string", "integer", "number", "boolean"}) | _ONLY_LONG
_MARKS = frozenset({"$schema", "$id", "$ref", "$defs", "definitions"})
_WORDS: Mapping[str, type] = {  # with a value of this kind, no name of a field
    "properties": dict,
    "patternProperties": dict,
    **dict.fromkeys(("enum", "anyOf", "oneOf", "allOf", "required"), list),
}
_FORMS = "str, int, float, bool, enum[a,b], list[str], {field: …}, with ? for what may be null"


class InvalidShortSchema(ValueError):
    """A short schema cannot be read; `path` says where in it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


def is_json_schema(schema: Mapping[str, Any]) -> bool:
    """Tell a JSON Schema from a short one: by its words, and what they are followed by."""
    if not _MARKS.isdisjoint(schema):
        return True
    if any(isinstance(schema.get(word), of) for word, of in _WORDS.items()):
        return True
    kind = schema.get("type")
    if isinstance(kind, list) or (isinstance(kind, str) and kind in _ONLY_LONG):
        return True
    if "const" in schema and not _is_short(schema["const"]):
        return True
    others = [each for name, each in schema.items() if name != "type"]
    return (
        isinstance(kind, str)
        and kind in _LONG
        and not (others and all(_is_short(each) for each in others))
    )


def to_json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema that a short one stands for; one that is none is returned as it is.

    Raises:
        InvalidShortSchema: it is neither.
    """
    return dict(schema) if is_json_schema(schema) else _object(schema, "", 1)


def _is_short(value: Any) -> bool:
    try:
        _written_out(value, "", 1)
    except InvalidShortSchema:
        return False
    return True


def _object(fields: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    if not fields:
        raise InvalidShortSchema(path, "an object without fields")
    return {
        "type": "object",
        "properties": {
            name: _written_out(each, f"{path}.{name}", depth + 1) for name, each in fields.items()
        },
        "required": list(fields),
        "additionalProperties": False,
    }


def _written_out(short: Any, path: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise InvalidShortSchema(path[:200], f"it is nested more than {MAX_DEPTH} deep")
    match short:
        case str():
            return _read(short.strip(), path, depth)
        case {}:
            return _object(short, path, depth)
        case [item]:
            return {"type": "array", "items": _written_out(item, path, depth + 1)}
        case _:
            raise InvalidShortSchema(path, f"{str(short)[:40]!r} is no type; known: {_FORMS}")


def _read(text: str, path: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise InvalidShortSchema(path[:200], f"it is nested more than {MAX_DEPTH} deep")
    if text.endswith("?"):
        inner = _read(text[:-1].rstrip(), path, depth + 1)
        return {"anyOf": [inner, {"type": "null"}]}
    if text in _NAMES:
        return dict(_NAMES[text])
    word, opening, rest = text.partition("[")
    if opening and rest.endswith("]"):
        inside = rest[:-1]
        match word.strip():
            case "list":
                return {"type": "array", "items": _read(inside.strip(), path, depth + 1)}
            case "optional":
                return _read(f"{inside.strip()}?", path, depth + 1)
            case "enum":
                return {"type": "string", "enum": _choices(inside, path)}
    raise InvalidShortSchema(path, f"{text[:40]!r} is no type; known: {_FORMS}")


def _choices(inside: str, path: str) -> list[str]:
    choices = [choice.strip().strip("'\"") for choice in inside.split(",")]
    if not all(choices) or len(set(choices)) < len(choices):
        raise InvalidShortSchema(path, f"enum[{inside[:60]}] must name different texts")
    return choices
