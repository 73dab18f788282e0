"""Documents that a model wrote without being held to their schema: right, or wrong in one place."""

from typing import Any

import pytest

from penstock.jobs.workflow.asking.document_check import violation

STRING = {"type": "string"}
ORDER = {
    "type": "object",
    "properties": {
        "item": STRING,
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "tags": {"type": "array", "items": STRING, "minItems": 1, "maxItems": 2},
        "buyer": {"$ref": "#/$defs/person"},
    },
    "required": ["item"],
    "additionalProperties": False,
    "$defs": {
        "person": {
            "type": "object",
            "properties": {"name": STRING, "knows": {"$ref": "#/$defs/person"}},
            "required": ["name"],
        }
    },
}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"item": "pear"}, None),
        ({"item": "pear", "count": 3.0, "tags": ["ripe"]}, None),
        ({"item": "pear", "buyer": {"name": "Ann", "knows": {"name": "Bo"}}}, None),
        ([], "the document must be object"),
        ({}, "the document has no 'item'"),
        ({"item": 1}, "the document.item must be string"),
        ({"item": "pear", "price": 1}, "the document.price may not be there"),
        ({"item": "pear", "count": True}, "the document.count must be integer"),
        ({"item": "pear", "count": 1.5}, "the document.count must be integer"),
        ({"item": "pear", "count": 0}, "the document.count must be at least 1"),
        ({"item": "pear", "count": 10}, "the document.count is out of its range"),
        ({"item": "pear", "tags": []}, "the document.tags's length must be at least 1"),
        ({"item": "pear", "tags": ["a", "b", "c"]}, "must be at most 2, got 3"),
        ({"item": "pear", "tags": ["a", 2]}, "the document.tags[1] must be string"),
        ({"item": "pear", "buyer": {"name": "Ann", "knows": {}}}, "buyer.knows has no 'name'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(document: Any, place: str | None) -> None:
    found = violation(document, ORDER)
    assert (found is None) if place is None else (found is not None and place in found), found


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"enum": ["a", 1, None]}, ["a", 1, 1.0, None], ["b", True, 2]),
        ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [2]}, None]),
        ({"type": ["string", "null"]}, ["", None], [1, []]),
        ({"type": "number"}, [1, 1.5], [True, "1"]),
        ({"type": "boolean"}, [True], [0, "true"]),
        ({"anyOf": [STRING, {"type": "integer"}]}, ["a", 1], [1.5, None]),
        ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, [0, 4], [2]),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, [1, 3], [0, 4]),
        ({"not": STRING}, [1], ["a"]),
        ({"minLength": 2, "maxLength": 3}, ["ab", 1], ["a", "abcd"]),
        ({"multipleOf": 0.1}, [0.3, 2], [0.35]),
        ({"prefixItems": [STRING], "items": False}, [["a"], []], [[1], ["a", 2]]),
        ({"additionalProperties": STRING}, [{"a": "b"}], [{"a": 1}]),
        ({"minProperties": 1}, [{"a": 1}], [{}]),
        (
            {"additionalProperties": False, "patternProperties": {"^x": {}}},
            [{"x": 1}, {"y": 1}],  # no pattern is tried here: the engine's grammar knows them
            [],
        ),
        ({}, [1, "a", None], []),
        ({"$ref": "#/$defs/any", "$defs": {"any": True}}, [1], []),
    ],
)
def test_words(schema: dict[str, Any], right: list[Any], wrong: list[Any]) -> None:
    assert [each for each in right if violation(each, schema) is not None] == []
    assert [each for each in wrong if violation(each, schema) is None] == []


def test_a_schema_that_explodes_is_given_up() -> None:
    definitions: dict[str, Any] = {"d0": STRING}
    for level in range(1, 30):
        inner = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"anyOf": [inner, inner, inner]}
    schema = {"not": {"$ref": "#/$defs/d29"}, "$defs": definitions}
    assert "more than 100000 checks" in (violation(1, schema) or "")


def test_a_schema_within_itself_ends_with_the_document() -> None:
    tree = {"type": "array", "items": {"$ref": "#"}}
    assert violation([[], [[]]], tree) is None
    assert violation([[], [[1]]], tree) is not None
    itself = violation(1, {"$ref": "#"})
    assert itself is not None
    assert "too deeply" in itself


def test_numbers_beyond_what_can_be_computed_with() -> None:
    assert violation(10**400, {"multipleOf": 0.5}) == (
        "the document holds a number that is too large"
    )
