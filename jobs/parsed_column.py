"""The column `parsed`: documents of a declared JSON schema, as Arrow has them. Knows no row.

string, number, integer, boolean -> utf8, double, int64, bool      object -> struct
array -> list       null beside one of these -> the same           anything freer -> JSON text
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

MAX_DEPTH = 16
MAX_FIELDS = 1000  # of structs within each other; further objects stay JSON text
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_PLAIN: dict[str, pa.DataType] = {
    "string": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}
_JSON = pa.string()
_SHAPING = frozenset({"$ref", "properties", "anyOf", "oneOf", "allOf", "if", "dependentSchemas"})


class _Misfit(ValueError):
    """A document is not what the column's type says."""


def parsed_type(schema: Mapping[str, Any]) -> pa.DataType | None:
    """Return the type of the documents of `schema`; None if they are not simple objects."""
    found = _Reading(schema).type_of(schema)
    return found if pa.types.is_struct(found) else None


def parsed_value(text: str | None, kind: pa.DataType) -> Any:
    """Return a document as a value of the column; None if it does not fit."""
    if text is None:
        return None
    try:
        return _fitted(json.loads(text), kind)
    except (ValueError, OverflowError, RecursionError):
        return None


def canonical_json(text: str) -> str | None:
    """Return a JSON document in one spelling; None if it is none, as when it was cut short."""
    try:
        value = json.loads(text)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


@dataclass(slots=True)
class _Reading:
    """One reading of a schema, which ends where a schema leads back to itself or gets too large."""

    root: Mapping[str, Any]
    num_fields_left: int = MAX_FIELDS
    open_refs: set[str] = field(default_factory=set)

    def type_of(self, schema: Any, depth: int = 0) -> pa.DataType:
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return _JSON
        if len(_SHAPING & schema.keys()) > 1:  # none of them tells of all that a document may hold
            return _JSON
        if isinstance(schema.get("$ref"), str):
            return self._referred(schema["$ref"], depth)
        for word in ("anyOf", "oneOf"):
            if isinstance(schema.get(word), list):
                choices = [each for each in schema[word] if each != {"type": "null"}]
                return self.type_of(choices[0], depth + 1) if len(choices) == 1 else _JSON
        kinds = schema.get("type")
        if isinstance(kinds, list):
            kinds = [kind for kind in kinds if kind != "null"]
            kinds = kinds[0] if len(kinds) == 1 else None
        if kinds is None and "type" not in schema:
            values = schema.get("enum", [schema["const"]] if "const" in schema else [])
            is_list = isinstance(values, list) and bool(values)
            is_text = is_list and all(isinstance(value, str) for value in values)
            kinds = "string" if is_text else None
        match kinds:
            case "object":
                return self._struct(schema, depth)
            case "array" if "prefixItems" not in schema:
                return pa.list_(self.type_of(schema.get("items"), depth + 1))
            case str():
                return _PLAIN.get(kinds, _JSON)
            case _:
                return _JSON

    def _referred(self, reference: str, depth: int) -> pa.DataType:
        if reference in self.open_refs:
            return _JSON
        self.open_refs.add(reference)
        found = self.type_of(_resolved(reference, self.root), depth + 1)
        self.open_refs.remove(reference)
        return found

    def _struct(self, schema: dict[str, Any], depth: int) -> pa.DataType:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties or _may_hold_more(schema, properties):
            return _JSON  # Parquet has no empty struct, and no struct of unknown fields
        if len(properties) > self.num_fields_left or not all(map(_is_name, properties)):
            return _JSON
        self.num_fields_left -= len(properties)
        return pa.struct(
            [(name, self.type_of(each, depth + 1)) for name, each in properties.items()]
        )


def _may_hold_more(schema: dict[str, Any], properties: dict[str, Any]) -> bool:
    """Whether an object may have fields, or must, that its properties do not name."""
    others = (schema.get(word, False) for word in ("additionalProperties", "unevaluatedProperties"))
    required = schema.get("required")
    is_all_named = not isinstance(required, list) or all(
        isinstance(name, str) and name in properties for name in required
    )
    return (
        not is_all_named
        or "patternProperties" in schema
        or any(each is not False for each in others)
    )


def _is_name(name: str) -> bool:
    return bool(name) and not any("\ud800" <= char <= "\udfff" for char in name)


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith("#"):
        return None
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else None


def _fitted(value: Any, kind: pa.DataType) -> Any:
    """Bring a value to a type. A text column takes what is no text as JSON."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return {field.name: _fitted(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_fitted(item, kind.value_type) for item in value]
    if pa.types.is_boolean(kind) and isinstance(value, bool):
        return value
    if pa.types.is_integer(kind) and is_number and value == int(value):
        if _INT64_MIN <= value <= _INT64_MAX:
            return int(value)
    elif pa.types.is_floating(kind) and is_number:
        return float(value)
    elif pa.types.is_string(kind):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()
    raise _Misfit(f"{type(value).__name__} is no {kind}")
