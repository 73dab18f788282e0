"""Which JSON Schemas a workflow may use for answers, and what they say of these. Knows no step."""

from collections.abc import Iterator, Mapping
from typing import Any

from ....engine.sampling_params import InvalidSampling
from ....engine.structured_outputs import check_schemas
from ..expressions.errors import nearest, shown
from ..expressions.types import ANY, BOOL, FLOAT, INT, NULL, TEXT, Type, joined
from ..short_schema import InvalidShortSchema, to_json_schema

MAX_PARTS = 10_000  # of a schema, once its references are followed
MAX_DEPTH = 64
_MAX_KNOWN_DEPTH = 12  # how deep the fields of documents are known to expressions

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_SCALARS: Mapping[str, Type] = {
    "string": TEXT,
    "integer": INT,
    "number": FLOAT,
    "boolean": BOOL,
    "null": NULL,
}
_TYPES = frozenset({*_SCALARS, "object", "array"})


class InvalidSchema(ValueError):
    """A schema cannot be used; the message says where in it and why."""


def answer_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema, long or short, as a JSON Schema that an answer can be held to.

    Raises:
        InvalidSchema: it is none, or unfolds to more than can be checked.
    """
    try:
        written_out = to_json_schema(schema)
        check_schemas("schema", written_out)
    except InvalidShortSchema as error:
        raise InvalidSchema(f"{error.path.lstrip('.')}: {error}".removeprefix(": ")) from None
    except InvalidSampling as error:
        raise InvalidSchema(str(error).removeprefix("schema ")) from None
    _Shape(written_out).check()
    return written_out


def document_type(schema: Mapping[str, Any]) -> Type:
    """Return what is known of documents that are as a schema says."""
    return _Documents(schema).type_of(schema, 0)


class _Shape:
    """Whether a schema is well formed, so that everybody who reads it may rely on that."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._sizes: dict[str, int | None] = {}  # of what a reference stands for; None: under way

    def check(self) -> None:
        if self._size(self._root, "", 0) > MAX_PARTS:
            raise InvalidSchema(f"it unfolds to more than {MAX_PARTS} parts")

    def _size(self, schema: Any, path: str, depth: int) -> int:
        """Count the parts of a schema, references followed, each but once within itself."""
        if isinstance(schema, bool):
            return 1
        if not isinstance(schema, Mapping):
            raise InvalidSchema(f"{path or 'it'} must be a schema, got {shown(schema)}")
        if depth > MAX_DEPTH:
            raise InvalidSchema(f"it is nested more than {MAX_DEPTH} deep")
        _check_words(schema, path)
        size = 1
        if "$ref" in schema:
            size += self._referred(schema["$ref"], path, depth)
        for name, inner in _inner(schema, path):
            size += self._size(inner, name, depth + 1)
        return min(size, MAX_PARTS + 1)

    def _referred(self, reference: str, path: str, depth: int) -> int:
        if reference in self._sizes:
            return self._sizes[reference] or 0  # a schema within itself, such as that of a tree
        target, seen = reference, {reference}
        while isinstance(found := _find(self._root, target, path), Mapping) and "$ref" in found:
            target = found["$ref"]
            if target in seen:
                raise InvalidSchema(f"{path}.$ref: {shown(target)} stands for itself")
            seen.add(target)
        self._sizes[reference] = None
        self._sizes[reference] = size = self._size(found, reference, depth + 1)
        return size


def _find(root: Mapping[str, Any], reference: Any, path: str) -> Any:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise InvalidSchema(
            f"{path}.$ref must be a place in the same schema, such as #/$defs/x, "
            f"got {shown(reference)}"
        )
    found: Any = root
    for part in reference.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or key not in found:
            known = found if isinstance(found, Mapping) else {}
            hint = nearest(key, map(str, known))
            raise InvalidSchema(f"{path}.$ref: there is no {shown(reference)}{hint}")
        found = found[key]
    return found


def _check_words(schema: Mapping[str, Any], path: str) -> None:
    for kind in _listed(schema.get("type", [])):
        if not isinstance(kind, str) or kind not in _TYPES:
            hint = nearest(str(kind), _TYPES)
            raise InvalidSchema(f"{path}.type: {shown(kind)} is none of JSON Schema's{hint}")
    if "$ref" in schema and not isinstance(schema["$ref"], str):
        raise InvalidSchema(f"{path}.$ref must be a text, got {shown(schema['$ref'])}")
    for word in _MAPS:
        if not isinstance(schema.get(word, {}), Mapping):
            raise InvalidSchema(f"{path}.{word} must be an object, got {shown(schema[word])}")
    for word in (*_LISTS, "enum", "required"):
        if word in schema and not isinstance(schema[word], list):
            raise InvalidSchema(f"{path}.{word} must be a list, got {shown(schema[word])}")
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        raise InvalidSchema(f"{path}.required must name properties")
    if schema.get("enum") == []:
        raise InvalidSchema(f"{path}.enum must name at least one value")


def _inner(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for word in _MAPS:
        for name, each in schema.get(word, {}).items():
            yield f"{path}.{word}.{name}", each
    for word in _LISTS:
        for index, each in enumerate(schema.get(word, ())):
            yield f"{path}.{word}[{index}]", each
    for word in _SINGLE:
        if word in schema:
            yield f"{path}.{word}", schema[word]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class _Documents:
    """What a schema that is well formed says of documents."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[int, int], Type] = {}  # by the schema's place in memory, and depth

    def type_of(self, schema: Any, depth: int) -> Type:
        """Return the type of what is so deep in a document; each schema is read once per depth."""
        if not isinstance(schema, Mapping) or depth > _MAX_KNOWN_DEPTH:
            return ANY
        key = (id(schema), depth)
        if key not in self._known:
            self._known[key] = self._read(schema, depth)
        return self._known[key]

    def _read(self, schema: Mapping[str, Any], depth: int) -> Type:
        if "$ref" in schema:
            return self.type_of(_find(self._root, schema["$ref"], ""), depth + 1)
        if "const" in schema:
            return Type.one_of([schema["const"]])
        if "enum" in schema:
            return Type.one_of(schema["enum"])
        if "allOf" in schema:
            return ANY
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return joined([self.type_of(each, depth + 1) for each in schema[word]])
        kinds = _listed(schema.get("type", "object" if "properties" in schema else []))
        if not kinds:
            return ANY
        return joined([self._of_kind(kind, schema, depth) for kind in kinds])

    def _of_kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> Type:
        if kind == "array":
            items = schema.get("items")
            return Type("list", item=None if items is None else self.type_of(items, depth + 1))
        if kind != "object":
            return _SCALARS[kind]
        properties = schema.get("properties", {})
        is_open = not properties or (
            bool(schema.get("additionalProperties", False)) or "patternProperties" in schema
        )
        fields = {name: self.type_of(each, depth + 1) for name, each in properties.items()}
        return Type.object_of(fields, is_open=is_open)
