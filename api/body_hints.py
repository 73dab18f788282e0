"""What the OpenAPI document says of fields that pydantic alone would describe wrongly.

Says, and checks nothing: some fields have several spellings, of which pydantic sees only the one
that a validator makes of them; of others only the engine knows the range.
"""

from typing import Any

from pydantic import Field, WithJsonSchema

_TEXT = {"type": "string"}
_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": _TEXT},
    "required": ["type", "text"],
}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


def within(
    low: float | None = None, high: float | None = None, *, above: float | None = None
) -> Any:
    """Say from which number on to which, or above which, a number must lie."""
    bounds = {"minimum": low, "maximum": high, "exclusiveMinimum": above}
    return Field(json_schema_extra={name: at for name, at in bounds.items() if at is not None})


def one_of(*values: str) -> Any:
    """Say which texts there are to choose from."""
    return Field(json_schema_extra={"enum": list(values)})


def like(pattern: str) -> Any:
    """Say what the whole of a text must look like."""
    return Field(json_schema_extra={"pattern": f"^{pattern}$"})


def _or_text(schema: dict[str, Any]) -> None:
    of_the_field = {name: schema.pop(name) for name in ("title", "description") if name in schema}
    said = dict(schema)
    schema.clear()
    schema.update(of_the_field, anyOf=[_TEXT, said])


OR_TEXT: Any = Field(json_schema_extra=_or_text)  # a lone text stands for a list that holds it
PROMPTS = WithJsonSchema({"anyOf": [_TEXT, _list_of(_TEXT), _TOKENS, _list_of(_TOKENS)]})
TEXT_PARTS = WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _PART}, {"type": "null"}]})
