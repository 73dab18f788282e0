"""Columns that steps leave alone have the types of their inputs, wherever they come to."""

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from penstock.jobs.column_schema import lost_types, read_types
from penstock.jobs.frame_index import noted_index
from penstock.jobs.model import ColumnType
from penstock.jobs.workflow.carried_types import carried_types
from penstock.jobs.workflow.checks.check import check
from penstock.jobs.workflow.runs.run_spec import RunSpec, SealedDataset
from penstock.jobs.workflow.spec import Workflow

KINDS = {
    "text": ColumnType.STRING,
    "small": ColumnType.INT,
    "day": ColumnType.STRING,
    "tags": ColumnType.JSON,
    "said__meta": ColumnType.JSON,
    "gone": ColumnType.INT,
}
LEFT: dict[str, pa.DataType] = {
    "text": pa.string(),
    "small": pa.int8(),
    "day": pa.date32(),
    "tags": pa.list_(pa.int32()),
    "said__meta": pa.list_(pa.int32()),  # as a step of the workflow calls what it adds
    "gone": pa.int8(),
}
RIGHT = {**LEFT, "day": pa.timestamp("us")}
NULLS = {"gone": ColumnType.STRING}  # all of them, in the second input: beside numbers it is JSON
CARRIED = {name: LEFT[name] for name in ("small", "day", "tags", "gone")}

STEPS: dict[str, dict[str, Any]] = {
    "said": {"type": "generate", "from": "inputs.left", "prompt": "{{ row.text }}"},
    "each": {"type": "expand", "from": "said", "explode": "row.tags"},
    "back": {"type": "reduce", "from": "each", "agg": {"k": "count()"}},
    "days": {"type": "reduce", "from": "each", "group_by": ["day", "said"],
             "prompt": "{{ rows | length }}"},
    "first": {"type": "reduce", "from": "each", "pick": {"max": "row.small"}},
    "both": {"type": "concat", "from": ["inputs.left", "inputs.right"]},
    "mixed": {"type": "concat", "from": ["inputs.left", "bare"]},
    "beside": {"type": "join", "from": ["inputs.left", "inputs.right"], "on": "text"},
    "bare": {"type": "map", "from": "inputs.plain", "set": {"n": "1"}},
}  # fmt: skip
ORDER = ("bare", *(name for name in STEPS if name != "bare"))


def dataset(types: dict[str, pa.DataType], kinds: dict[str, ColumnType]) -> SealedDataset:
    note = msgspec.json.encode({"index_columns": ["day"]})
    lost = lost_types(kinds, {name: name for name in kinds}, pa.schema(types, {b"pandas": note}))
    return SealedDataset(1, 1, {name: kinds[name].value for name in types}, arrow_schema=lost)


def carried(step: str | None, output: dict[str, Any] | None = None) -> pa.Schema:
    document = {
        "name": "w",
        "inputs": {"left": {}, "right": {}, "plain": {}},
        "defaults": {"model": "m"},
        "steps": [{"id": name, **STEPS[name]} for name in ORDER],
        "output": output or {},
    }
    plain = SealedDataset(1, 1, {"text": "string", "small": "int64", "day": "string"})
    left, right = dataset(LEFT, KINDS), dataset(RIGHT, {**KINDS, **NULLS})
    inputs = {"left": left, "right": right, "plain": plain}
    workflow = msgspec.convert(document, Workflow)
    plan = check(workflow, {}, {name: each.columns for name, each in inputs.items()})
    spec = RunSpec("run_1", workflow, {}, inputs, out="out", created_at_ms=0)
    return read_types(carried_types(spec, plan, step))


@pytest.mark.parametrize(
    ("step", "types"),
    [
        ("said", CARRIED),
        ("each", CARRIED),
        ("back", CARRIED),
        ("days", {"day": pa.date32()}),
        ("first", CARRIED),
        ("both", {"small": pa.int8(), "tags": LEFT["tags"], "said__meta": LEFT["said__meta"]}),
        ("mixed", {name: LEFT[name] for name in ("tags", "said__meta", "gone")}),
        ("beside", {name: LEFT[name] for name in (*CARRIED, "said__meta")}),
        ("bare", {}),
    ],
)
def test_a_column_has_the_type_that_its_inputs_agree_on(
    step: str, types: dict[str, pa.DataType]
) -> None:
    found = carried(step)
    assert dict(zip(found.names, found.types, strict=True)) == types


def test_the_output_has_those_that_are_selected() -> None:
    output = {"from": "beside", "select": ["small", "beside.day", "beside.tags"]}
    assert carried(None, output).names == ["small"], "what lies within a column is a document"
    assert set(carried(None, {"from": "said"}).names) == set(CARRIED)


@pytest.mark.parametrize(
    ("step", "index"), [("said", ["day"]), ("days", ["day"]), ("both", ["day"]), ("bare", [])]
)
def test_an_index_goes_along_with_its_columns(step: str, index: list[str]) -> None:
    assert noted_index(carried(step).metadata) == index
    assert noted_index(carried(None, {"from": "said", "select": ["text"]}).metadata) == []


def test_a_note_that_would_take_too_much_room_is_none() -> None:
    wide = pa.schema({f"{'x' * 200}{number}": pa.int8() for number in range(2000)})
    columns = dict.fromkeys(wide.names, ColumnType.INT)
    assert lost_types(columns, {name: name for name in columns}, wide) is None
    few = lost_types({"x": ColumnType.INT}, {"x": "y"}, pa.schema({"x": pa.int8()}))
    assert read_types(few) == pa.schema({"y": pa.int8()})
