"""Objects are closed where that changes nothing but what a model may add."""

from typing import Any

import pytest

from penstock.engine.closed_schema import closed_schema

A = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED_A = {**A, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (A, CLOSED_A),
        ({**A, "required": ["a"]}, {**CLOSED_A, "required": ["a"]}),
        ({"type": "array", "items": A}, {"type": "array", "items": CLOSED_A}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED_A, {"type": "null"}]}),
        ({"$ref": "#/$defs/a", "$defs": {"a": A}}, {"$ref": "#/$defs/a", "$defs": {"a": CLOSED_A}}),
        # A property may have the name of a keyword.
        (
            {"type": "object", "properties": {"allOf": A}},
            {"type": "object", "properties": {"allOf": CLOSED_A}, "additionalProperties": False},
        ),
    ],
)
def test_what_is_named_is_all(schema: dict[str, Any], closed: dict[str, Any]) -> None:
    before = repr(schema)
    assert closed_schema(schema) == closed
    assert repr(schema) == before


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": {"type": "string"}},
        {**A, "patternProperties": {"^x": {}}},
        {**A, "required": ["a", "b"]},
        {"allOf": [A, {"properties": {"b": {}}}]},
        {**A, "anyOf": [{"properties": {"b": {}}, "required": ["b"]}]},
        {**A, "$ref": "#/$defs/b", "$defs": {"b": {"properties": {"b": {}}}}},
        {"properties": 5, "items": 5, "anyOf": 5, "$defs": 5},
    ],
)
def test_what_might_exclude_something_else_stays_open(schema: dict[str, Any]) -> None:
    assert closed_schema(schema) == schema


def test_a_bottomless_schema_is_left_to_the_compiler() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"items": schema}
    assert "items" in closed_schema(schema)
