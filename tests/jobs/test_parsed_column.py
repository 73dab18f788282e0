"""Documents of a schema become a typed column, and whatever does not fit stays JSON."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.jobs.landing import LandedRow, land
from penstock.jobs.model import ColumnType, RowStatus, TaskSpec
from penstock.jobs.parsed_column import MAX_FIELDS, canonical_json, parsed_type, parsed_value
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.row_schema import landed_names, row_schema
from penstock.jobs.tool_use import ToolCall

from .conftest import SpecMaker, format_of


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


STRING, INTEGER = {"type": "string"}, {"type": "integer"}
ORDER = of(
    item=STRING,
    amount=INTEGER,
    price={"type": "number"},
    gift={"type": "boolean"},
    tags={"type": "array", "items": STRING},
    buyer=of(name=STRING, age={"type": ["integer", "null"]}),
    extra={"type": "object"},
)
ORDER_TYPE = pa.struct(
    [
        ("item", pa.string()),
        ("amount", pa.int64()),
        ("price", pa.float64()),
        ("gift", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("buyer", pa.struct([("name", pa.string()), ("age", pa.int64())])),
        ("extra", pa.string()),
    ]
)

MORE: list[dict[str, Any]] = [  # by which a document may have fields that its schema does not name
    {"additionalProperties": True},
    {"unevaluatedProperties": True},
    {"patternProperties": {"^x": STRING}},
    {"required": ["a", "b"]},
    {"allOf": [of(b=STRING)]},
    {"anyOf": [of(b=STRING)]},
    {"$ref": "#/$defs/b", "$defs": {"b": of(b=STRING)}},
    {"if": of(a={"const": "x"}), "then": of(b=STRING)},
    {"dependentSchemas": {"a": of(b=STRING)}},
]


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        (ORDER, ORDER_TYPE),
        (of(a={"enum": ["x", "y"]}), pa.struct([("a", pa.string())])),
        (of(a={"const": 5}), pa.struct([("a", pa.string())])),
        (of(a={"anyOf": [INTEGER, {"type": "null"}]}), pa.struct([("a", pa.int64())])),
        (of(a={"anyOf": [INTEGER, STRING]}), pa.struct([("a", pa.string())])),
        (of(a={"type": "array"}), pa.struct([("a", pa.list_(pa.string()))])),
        ({**of(a={"$ref": "#/$defs/n"}), "$defs": {"n": INTEGER}}, pa.struct([("a", pa.int64())])),
        ({**of(a={"$ref": "#/$defs/x"})}, pa.struct([("a", pa.string())])),
        ({**of(a=STRING), "additionalProperties": STRING}, None),
        ({**of(a=STRING), "additionalProperties": False}, pa.struct([("a", pa.string())])),
        ({**of(a=STRING), "required": [["a"]]}, None),
        (of(a={"enum": 5}), pa.struct([("a", pa.string())])),
        *[({**of(a=STRING), **more}, None) for more in MORE],
        (of(a={**of(b=STRING), "additionalProperties": True}), pa.struct([("a", pa.string())])),
        (of(a={**INTEGER, "allOf": [{"minimum": 1}]}), pa.struct([("a", pa.int64())])),
        (of(), None),
        ({"type": "array", "items": STRING}, None),
        ({}, None),
        (of(**{"\ud800": STRING}), None),
    ],
)
def test_a_schema_becomes_a_type(schema: dict[str, Any], kind: pa.DataType | None) -> None:
    assert parsed_type(schema) == kind


def test_a_schema_that_holds_itself_has_an_end() -> None:
    node = of(value=INTEGER, next={"anyOf": [{"$ref": "#"}, {"type": "null"}]})
    kind = parsed_type(node)
    assert kind is not None
    document = '{"value": 1, "next": {"value": 2, "next": null}}'
    assert parsed_value(document, kind)["next"]["value"] == 2
    pa.array([parsed_value(document, kind)], kind)


def num_fields(kind: pa.DataType) -> int:
    if not pa.types.is_struct(kind):
        return 0
    return kind.num_fields + sum(num_fields(each.type) for each in kind)


def test_a_schema_that_holds_itself_often_has_few_columns() -> None:
    kind = parsed_type(of(**{name: {"$ref": "#"} for name in "abcdefgh"}))
    assert kind is not None
    assert num_fields(kind) == 8 + 8 * 8


def test_a_schema_that_unfolds_has_a_bounded_number_of_columns() -> None:
    level = dict.fromkeys("abcdefgh", STRING)
    defs = {"0": of(**level)}
    for number in range(1, 7):
        defs[str(number)] = of(**{name: {"$ref": f"#/$defs/{number - 1}"} for name in level})
    kind = parsed_type({**of(root={"$ref": "#/$defs/6"}), "$defs": defs})
    assert kind is not None
    assert 900 < num_fields(kind) <= MAX_FIELDS
    assert parsed_type(of(**{f"f{number}": STRING for number in range(MAX_FIELDS + 1)})) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "b": "x"}', {"a": 1, "b": "x"}),
        ('{"a": 1.0}', {"a": 1, "b": None}),
        ('{"a": 1.5}', None),
        ('{"a": true}', None),
        ('{"a": "1"}', None),
        ('{"a": 99999999999999999999}', None),
        ('{"a": 1e999}', None),
        ('{"b": {"c": [1]}}', {"a": None, "b": '{"c": [1]}'}),
        ('{"b": "\\ud800"}', {"a": None, "b": "?"}),
        ("[1]", None),
        ("null", None),
        ('{"a": 1', None),
        ("[" * 100_000, None),
        (None, None),
    ],
)
def test_what_does_not_fit_is_null(text: str | None, value: Any) -> None:
    kind = pa.struct([("a", pa.int64()), ("b", pa.string())])
    assert parsed_value(text, kind) == value
    pa.array([parsed_value(text, kind)], kind)


def test_json_has_one_spelling() -> None:
    assert canonical_json(' {"b" : [1, 2.0],\n"a":"é"} ') == '{"b":[1,2.0],"a":"é"}'
    assert canonical_json('{"a": 1e999}') is None
    assert canonical_json('{"a"') is None


def test_a_part_has_the_column_and_keeps_a_users_own(make_spec: SpecMaker) -> None:
    task = TaskSpec(model="m", prompt="p", response_format=format_of(ORDER))
    columns = {"text": ColumnType.STRING, "parsed": ColumnType.STRING}
    spec = make_spec(num_rows=3, task=task, columns=columns)
    assert landed_names(spec) == {"text": "text", "parsed": "input_parsed"}
    fits = '{"item":"tea","amount":2,"price":1.5,"gift":false,"tags":["a"],"buyer":{"name":"B"}}'
    answers = [fits, '{"item":5,"amount":"many"}', None]
    rows = [
        LandedRow(
            row_index=index,
            custom_id=None,
            status=RowStatus.SUCCEEDED,
            output=answer,
            output_json=answer,
            tool_calls=(ToolCall("c", "f", "{}"),) if answer is None else (),
            columns={"text": "t", "parsed": "mine"},
        )
        for index, answer in enumerate(answers)
    ]
    land(spec, 0, 1, rows)
    table = pq.read_table(ResultsDir.of(spec).part(0))
    assert table.schema.equals(row_schema(spec))
    assert table.schema.field("parsed").type == ORDER_TYPE
    assert table["output_json"].to_pylist() == answers
    first, second, third = table["parsed"].to_pylist()
    assert (first["item"], first["amount"], first["tags"]) == ("tea", 2, ["a"])
    assert first["buyer"] == {"name": "B", "age": None}
    assert second is third is None
    assert table["input_parsed"].to_pylist() == ["mine"] * 3
    assert table["tool_calls"].to_pylist() == [
        None,
        None,
        [{"id": "c", "name": "f", "arguments": "{}"}],
    ]


def test_without_a_schema_there_is_no_such_column(make_spec: SpecMaker) -> None:
    for response_format in (None, {"type": "text"}, {"type": "json_object"}, format_of(of())):
        task = TaskSpec(model="m", prompt="p", response_format=response_format)
        assert "parsed" not in row_schema(make_spec(task=task)).names
