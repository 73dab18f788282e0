from typing import Any

import pytest

from penstock.jobs.workflow.asking.document_check import violation
from penstock.jobs.workflow.checks.schemas import InvalidSchema, answer_schema, document_type
from penstock.jobs.workflow.expressions.types import Type

TEXT = {"type": "string"}
TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
}


def laughs(levels: int) -> dict[str, Any]:
    """A schema that doubles with every level when its references are followed."""
    names = [f"l{index}" for index in range(levels)]
    inner = {
        name: {"type": "object", "properties": {"a": ref(after), "b": ref(after)}}
        for name, after in zip(names, [*names[1:], "last"], strict=True)
    }
    return {"$ref": "#/$defs/l0", "$defs": {**inner, "last": {"type": "string"}}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


@pytest.mark.parametrize(
    ("short", "document", "wrong"),
    [
        ({"a": "int"}, {"a": 1}, {"a": "1"}),
        ({"a": "integer", "b": "float"}, {"a": 1, "b": 0.5}, {"a": 1}),
        ({"a": "str", "b": "bool"}, {"a": "x", "b": True}, {"a": "x", "b": True, "c": 1}),
        ({"a": "enum[x, y]"}, {"a": "x"}, {"a": "z"}),
        ({"a": "enum['x y','z']"}, {"a": "x y"}, {"a": "'x y'"}),
        ({"a": "list[int]"}, {"a": [1, 2]}, {"a": ["1"]}),
        ({"a": ["str"]}, {"a": ["x"]}, {"a": "x"}),
        ({"a": "list[list[enum[x,y]]]"}, {"a": [["x"]]}, {"a": [["z"]]}),
        ({"a": "int?"}, {"a": None}, {}),
        ({"a": "optional[list[str]]"}, {"a": None}, {"a": [1]}),
        ({"a": {"b": {"c": "number"}}}, {"a": {"b": {"c": 1.5}}}, {"a": {"b": {}}}),
        ({"a": [{"b": "int"}]}, {"a": [{"b": 1}]}, {"a": [{"c": 1}]}),
        ({"type": "str", "title": "str"}, {"type": "x", "title": "y"}, "x"),
        ({"type": "string", "title": "string"}, {"type": "x", "title": "y"}, "x"),
        ({"items": {"a": "int"}}, {"items": {"a": 1}}, [1]),
    ],
)
def test_a_short_schema_says_what_a_long_one_would(short: Any, document: Any, wrong: Any) -> None:
    schema = answer_schema(short)
    assert violation(document, schema) is None
    assert violation(wrong, schema) is not None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": TEXT}},
        {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
        {"properties": {"type": TEXT}},
        {"type": "string"},
        {"type": "string", "minLength": 2},
        {"type": ["string", "null"]},
        {"type": "array", "items": TEXT},
        {"type": "object"},
        {"enum": ["a", 1]},
        {"anyOf": [TEXT, {"type": "null"}]},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "integer"},
        TREE,
        laughs(3),
    ],
)
def test_a_json_schema_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert answer_schema(schema) == schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "an object without fields"),
        ({"a": "itn"}, "a: 'itn' is no type; known: str, int"),
        ({"a": 3}, "a: '3' is no type"),
        ({"a": ["int", "str"]}, "is no type"),
        ({"a": {"b": {}}}, "a.b: an object without fields"),
        ({"a": "enum[]"}, "must name different texts"),
        ({"a": "enum[x,x]"}, "must name different texts"),
        ({"a": "list[" * 40 + "int" + "]" * 40}, "nested more than 16 deep"),
        ({"a": "int" + "?" * 40}, "nested more than 16 deep"),
        ({"type": "array", "items": 3}, ".items must be a schema, got 3"),
        ({"type": ["strin"]}, "'strin' is none of JSON Schema's; did you mean 'string'?"),
        ({"type": "object", "properties": 3}, ".properties must be an object"),
        ({"anyOf": 3, "type": "object"}, ".anyOf must be a list"),
        ({"anyOf": [3]}, ".anyOf[0] must be a schema"),
        ({"required": [3], "type": "object"}, ".required must name properties"),
        ({"enum": []}, ".enum must name at least one value"),
        ({"$ref": 3}, "$ref must be a text"),
        ({"$ref": "http://x/y"}, "a place in the same schema"),
        ({"$ref": "#/$defs/nod", "$defs": {"node": TEXT}}, "did you mean 'node'?"),
        ({"$ref": "#"}, "'#' stands for itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": ref("b"), "b": ref("a")}}, "stands for itself"),
        (laughs(20), "unfolds to more than 10000 parts"),
        ({"type": "object", "properties": {"x": {"enum": ["y" * 300_000]}}}, "262144 characters"),
    ],
)
def test_a_schema_that_cannot_be_used(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSchema) as caught:
        answer_schema(schema)
    assert message in str(caught.value)


def test_a_schema_as_deep_as_a_pit_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidSchema, match="nested more than 64 deep"):
        answer_schema(schema)


def kind_at(of: Type, *path: str | None) -> str:
    for key in path:
        found = of.item if key is None else of.fields.get(key)
        assert found is not None, (path, key)
        of = found
    return of.kind


def test_what_a_schema_tells_of_documents() -> None:
    of = document_type(
        answer_schema({"n": "int", "tags": "list[str]", "who": {"name": "str?"}, "to": "enum[a,b]"})
    )
    assert (of.kind, of.is_open) == ("object", False)
    assert kind_at(of, "n") == "int64"
    assert kind_at(of, "tags", None) == "string"
    assert kind_at(of, "who", "name") == "string"
    assert of.fields["to"].values == ("a", "b")
    tree = document_type(TREE)
    assert kind_at(tree, "kids", None, "kids", None, "name") == "string"


@pytest.mark.parametrize(
    ("schema", "kind", "is_open"),
    [
        ({"type": "object"}, "object", True),
        (
            {"type": "object", "properties": {"a": TEXT}, "additionalProperties": True},
            "object",
            True,
        ),
        (
            {"type": "object", "properties": {"a": TEXT}, "additionalProperties": TEXT},
            "object",
            True,
        ),
        ({"properties": {"a": TEXT}}, "object", False),
        ({"anyOf": [TEXT, {"type": "integer"}]}, "any", True),
        ({"anyOf": [{"type": "number"}, {"type": "integer"}]}, "float64", True),
        ({"allOf": [TEXT]}, "any", True),
        ({"const": 3}, "int64", True),
        ({"enum": [1, "a"]}, "any", True),
        ({"type": ["boolean", "null"]}, "bool", True),
    ],
)
def test_where_a_schema_leaves_things_open(schema: Any, kind: str, is_open: bool) -> None:
    of = document_type(answer_schema(schema))
    assert (of.kind, of.is_open) == (kind, is_open)


def test_laughing_schemas_are_told_of_in_no_time() -> None:
    wide = {"type": "object", "properties": {f"p{index}": ref("l0") for index in range(30)}}
    schema = {**wide, "$defs": laughs(5)["$defs"]}
    assert kind_at(document_type(answer_schema(schema)), "p0", "a", "b") == "object"


def test_a_schema_within_itself_is_followed_so_far() -> None:
    kids = {f"k{index}": {"$ref": "#"} for index in range(40)}
    of = document_type(answer_schema({"type": "object", "properties": {**kids, "name": TEXT}}))
    assert kind_at(of, "k0", "k1", "name") == "string"
    assert kind_at(of, *["k0"] * 5) == "object"
