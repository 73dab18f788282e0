"""The column `parsed`: documents of a declared JSON schema, as Arrow has them. Knows no row.

string, number, integer, boolean -> utf8, double, int64, bool      object -> struct
array -> list       null beside one of these -> the same           anything freer -> JSON text
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

MAX_DEPTH = 16
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_PLAIN: dict[str, pa.DataType] = {
    "string": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}
_JSON = pa.string()


class _Misfit(ValueError):
    """A document is not what the column's type says."""


def parsed_type(schema: Mapping[str, Any]) -> pa.DataType | None:
    """Return the type of the documents of `schema`; None if they are not simple objects."""
    found = _type_of(schema, schema, 0)
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


def _type_of(schema: Any, root: Mapping[str, Any], depth: int) -> pa.DataType:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:  # a $ref may lead back to itself
        return _JSON
    if isinstance(schema.get("$ref"), str):
        return _type_of(_resolved(schema["$ref"], root), root, depth + 1)
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            choices = [each for each in schema[word] if each != {"type": "null"}]
            return _type_of(choices[0], root, depth + 1) if len(choices) == 1 else _JSON
    kinds = schema.get("type")
    if isinstance(kinds, list):
        kinds = [kind for kind in kinds if kind != "null"]
        kinds = kinds[0] if len(kinds) == 1 else None
    if kinds is None and "type" not in schema:
        values = schema.get("enum", [schema["const"]] if "const" in schema else [])
        is_text = bool(values) and all(isinstance(value, str) for value in values)
        kinds = "string" if is_text else None
    match kinds:
        case "object":
            return _struct(schema, root, depth)
        case "array" if "prefixItems" not in schema:
            return pa.list_(_type_of(schema.get("items"), root, depth + 1))
        case str():
            return _PLAIN.get(kinds, _JSON)
        case _:
            return _JSON


def _struct(schema: dict[str, Any], root: Mapping[str, Any], depth: int) -> pa.DataType:
    properties = schema.get("properties")
    is_open = isinstance(schema.get("additionalProperties"), dict) or "patternProperties" in schema
    if not isinstance(properties, dict) or not properties or is_open:
        return _JSON  # Parquet has no empty struct, and no struct of unknown fields
    if not all(map(_is_name, properties)):
        return _JSON
    fields = [(name, _type_of(each, root, depth + 1)) for name, each in properties.items()]
    return pa.struct(fields)


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
