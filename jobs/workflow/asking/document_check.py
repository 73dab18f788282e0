"""Whether a document is what a JSON Schema says: the words that decide about shapes and ranges.

    type enum const · properties required additionalProperties · items prefixItems · anyOf oneOf
    allOf not $ref · minimum maximum exclusive* multipleOf · min/max Length, Items, Properties

Other words hold of nothing here (`pattern` too: a workflow's regular expression is no code that is
run beside other people's rows). The engine holds an answer to more than this, token by token.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

from ..orders.ordering import identity

MAX_DEPTH = 64
MAX_CHECKS = 100_000  # of schemas against values, in one document

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}


class _Violation(Exception):
    """A value is not what its schema says."""


class _TooMuch(Exception):
    """It would take too long to find out."""


def violation(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Say where and how a document is not as its schema says; None if it is."""
    try:
        _Check(schema).value(value, schema, "the document", 0)
    except _Violation as found:
        return str(found)
    except _TooMuch:
        return f"the document needs more than {MAX_CHECKS} checks against its schema"
    except OverflowError:
        return "the document holds a number that is too large"
    return None


class _Check:
    """One document against one schema."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._num_left = MAX_CHECKS

    def value(self, value: Any, schema: Any, where: str, depth: int) -> None:
        self._spend(1)
        if depth > MAX_DEPTH:
            raise _Violation(f"{where} is nested too deeply for its schema to be checked")
        if schema is False:
            raise _Violation(f"{where} may not be there")
        if not isinstance(schema, Mapping):
            return
        self._referred(value, schema, where, depth)
        _check_type(value, schema.get("type"), where)
        for word in ("enum", "const"):
            if word in schema:
                allowed = schema["enum"] if word == "enum" else [schema["const"]]
                self._spend(len(allowed))
                if identity([value]) not in {identity([each]) for each in allowed}:
                    raise _Violation(f"{where} must be one of {str(allowed)[:100]}")
        self._alternatives(value, schema, where, depth)
        match value:
            case dict():
                self._object(value, schema, where, depth)
            case list():
                self._array(value, schema, where, depth)
            case str():
                _check_range(len(value), schema, ("minLength", "maxLength"), f"{where}'s length")
            case int() | float() if _is_number(value):
                _check_number(value, schema, where)

    def _spend(self, amount: int) -> None:
        self._num_left -= amount
        if self._num_left < 0:
            raise _TooMuch

    def _referred(self, value: Any, schema: Mapping[str, Any], where: str, depth: int) -> None:
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return
        found: Any = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        self.value(value, found, where, depth + 1)

    def _alternatives(self, value: Any, schema: Mapping[str, Any], where: str, depth: int) -> None:
        for each in schema.get("allOf", ()):
            self.value(value, each, where, depth + 1)
        if "not" in schema and self._fits(value, schema["not"], where, depth):
            raise _Violation(f"{where} is what it must not be")
        for word in ("anyOf", "oneOf"):
            if word not in schema:
                continue
            num_fitting = sum(self._fits(value, each, where, depth) for each in schema[word])
            if num_fitting == 0 or (word == "oneOf" and num_fitting > 1):
                raise _Violation(f"{where} fits {num_fitting} of the schemas in {word}")

    def _fits(self, value: Any, schema: Any, where: str, depth: int) -> bool:
        try:
            self.value(value, schema, where, depth + 1)
        except _Violation:
            return False
        return True

    def _object(
        self, value: dict[str, Any], schema: Mapping[str, Any], where: str, depth: int
    ) -> None:
        _check_range(len(value), schema, ("minProperties", "maxProperties"), f"{where}'s size")
        for name in schema.get("required", ()):
            if name not in value:
                raise _Violation(f"{where} has no {name!r}")
        known = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        if others is False and "patternProperties" in schema:
            others = True
        for name, each in value.items():
            self.value(each, known.get(name, others), f"{where}.{name[:40]}", depth + 1)

    def _array(self, value: list[Any], schema: Mapping[str, Any], where: str, depth: int) -> None:
        _check_range(len(value), schema, ("minItems", "maxItems"), f"{where}'s length")
        first = schema.get("prefixItems", ())
        for index, each in enumerate(value):
            of = first[index] if index < len(first) else schema.get("items", True)
            self.value(each, of, f"{where}[{index}]", depth + 1)


def _check_type(value: Any, wanted: Any, where: str) -> None:
    kinds = wanted if isinstance(wanted, list) else [wanted]
    if wanted is None or any(_is_of(value, kind) for kind in kinds):
        return
    raise _Violation(f"{where} must be {' or '.join(map(str, kinds))}, got {str(value)[:60]!r}")


def _is_of(value: Any, kind: Any) -> bool:
    if kind in ("number", "integer"):
        return _is_number(value) and (kind == "number" or value == int(value))
    return isinstance(value, _TYPES.get(kind, (object,)))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_number(value: int | float, schema: Mapping[str, Any], where: str) -> None:
    _check_range(value, schema, ("minimum", "maximum"), where)
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if (_is_number(low) and value <= low) or (_is_number(high) and value >= high):
        raise _Violation(f"{where} is out of its range: {value}")
    step = schema.get("multipleOf")
    if _is_number(step) and step > 0 and abs(value / step - round(value / step)) > 1e-9:
        raise _Violation(f"{where} must be a multiple of {step}, got {value}")


def _check_range(
    number: int | float, schema: Mapping[str, Any], words: tuple[str, str], what: str
) -> None:
    low, high = (schema.get(word) for word in words)
    if _is_number(low) and number < low:
        raise _Violation(f"{what} must be at least {low}, got {number}")
    if _is_number(high) and number > high:
        raise _Violation(f"{what} must be at most {high}, got {number}")
