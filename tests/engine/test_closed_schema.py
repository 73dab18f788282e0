"""Objects are closed where that changes nothing but what a model may add."""

from typing import Any

import pytest

from penstock.engine.closed_schema import _walk, closed_schema

A = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED_A = {**A, "additionalProperties": False}
REF_A = {"$ref": "#/$defs/a", "$defs": {"a": A}}


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (A, CLOSED_A),
        ({**A, "required": ["a"]}, {**CLOSED_A, "required": ["a"]}),
        ({"type": "array", "items": A}, {"type": "array", "items": CLOSED_A}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [CLOSED_A, {"type": "null"}]}),
        ({"$ref": "#/$defs/a", "$defs": {"a": A}}, {"$ref": "#/$defs/a", "$defs": {"a": CLOSED_A}}),
        (
            {"additionalProperties": A, "patternProperties": {"^x": A}},
            {"additionalProperties": CLOSED_A, "patternProperties": {"^x": CLOSED_A}},
        ),
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
        {**REF_A, "required": ["b"]},
        {**REF_A, "minProperties": 2},
        {**REF_A, "anyOf": [{"properties": {"b": {}}, "required": ["b"]}]},
        {"anyOf": [A, {"type": "null"}], "required": ["b"]},
        {"oneOf": [A], "propertyNames": {"pattern": "^b"}},
        {"oneOf": [A], "patternProperties": {"^b": {"type": "string"}}},
        {"anyOf": [A], "dependentRequired": {"a": ["b"]}},
        {"items": [{"anyOf": [A], "required": ["b"]}], "$defs": {"a": A}},
        {**A, "minProperties": 2},
        {**A, "required": [["a"]]},
        {"properties": 5, "items": 5, "anyOf": 5, "$defs": 5},
    ],
)
def test_what_might_exclude_something_else_stays_open(schema: dict[str, Any]) -> None:
    assert closed_schema(schema) == schema


def test_a_schema_is_walked_level_by_level_and_not_through_all_above() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"items": schema}
    assert sum(1 for _ in _walk(schema)) == 5_001


def test_a_bottomless_schema_is_left_to_the_compiler() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"items": schema}
    assert "items" in closed_schema(schema)
