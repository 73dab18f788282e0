"""Columns go through JSON, as the queue holds them, and have their types again."""

import base64
import io
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from penstock.api.column_types import restored
from penstock.jobs.columns import ColumnTypes
from penstock.jobs.inputs import InputRow, open_input
from penstock.jobs.landing import _USER_VALUES
from penstock.jobs.row_schema import ARROW_TYPES

MOMENT = datetime(2024, 2, 29, 1, 2, 3, 456789)
COLUMNS: dict[str, pa.Array] = {
    "int8": pa.array([-128, None, 127], pa.int8()),
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "float": pa.array([1.0, None, 2.5]),
    "float of nulls": pa.array([None, None, None], pa.float64()),
    "half": pa.array([1.5, None, 0.25], pa.float16()),
    "bool of nulls": pa.array([None] * 3, pa.bool_()),
    "moment": pa.array([MOMENT, None, datetime(1, 1, 1)], pa.timestamp("us")),
    "nanoseconds": pa.array([1, None, 2**60], pa.timestamp("ns")),
    "moment in a zone": pa.array([1, None, 2**40], pa.timestamp("ms", "Europe/Berlin")),
    "moment in UTC": pa.array([MOMENT.replace(tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
    "date": pa.array([date(2024, 2, 29), None, date(1, 1, 1)]),
    "date64": pa.array([date(2024, 2, 29), None, None], pa.date64()),
    "time": pa.array([time(1, 2, 3, 456), None, time(0)]),
    "duration": pa.array([timedelta(days=-3, microseconds=5), None, timedelta(400, 1, 1)]),
    "whole nanoseconds": pa.array([10**12, None, -(10**9)], pa.duration("ns")),
    "decimal": pa.array([Decimal("-1.50"), None, Decimal("12345678901234567.89")]),
    "bytes": pa.array([b"\x00\xff", None, b""]),
    "category": pa.array(["b", None, "a"]).dictionary_encode(),
    "category of numbers": pa.array([5, None, 3], pa.int32()).dictionary_encode(),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int32())),
    "large list": pa.array([["a"], None, []], pa.large_list(pa.large_string())),
    "vector": pa.array([[1.5, 2.0], None, [0.0, 1.0]], pa.list_(pa.float32(), 2)),
    "struct": pa.array([{"at": MOMENT, "tags": [b"x", None]}, None, {"at": None, "tags": None}]),
    "map": pa.array([[("a", Decimal("1.5"))], None, []], pa.map_(pa.string(), pa.decimal128(5, 2))),
    "deep": pa.array([[[date(2024, 1, 1)], None], None, []]),
}  # fmt: skip


def through_json(column: pa.Array) -> pa.Table:
    """What lands of a column, and nothing else."""
    file = io.BytesIO()
    pq.write_table(pa.table({"x": column}), file)
    file.seek(0)
    rows = [item.row["x"] for item in open_input(file, "parquet") if isinstance(item, InputRow)]
    assert len(rows) == len(column)
    types = ColumnTypes()
    for value in rows:
        types.add({"x": value})
    kind = types.settled()["x"]
    landed = [None if value is None else _USER_VALUES[kind](value) for value in rows]
    return pa.table({"x": pa.array(landed, ARROW_TYPES[kind])})


def note_of(kind: pa.DataType) -> str:
    return base64.b64encode(pa.schema([("x", kind)]).serialize().to_pybytes()).decode()


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_what_it_was(name: str) -> None:
    column = COLUMNS[name]
    found = restored(through_json(column), note_of(column.type)).column("x").combine_chunks()
    assert found.type == column.type
    assert found.cast(column.type).equals(column) or found.to_pylist() == column.to_pylist()
    # A page without rows has the same types: pages are put together.
    assert restored(through_json(column).slice(0, 0), note_of(column.type)).schema.types == [
        column.type
    ]


def test_columns_that_nobody_asked_for_or_that_json_has_nothing_for_are_left_alone() -> None:
    table = pa.table({"x": ["a"]})
    assert restored(table, None) is table
    assert restored(table.rename_columns(["y"]), note_of(pa.date32())).schema.names == ["y"]
    interval = pa.month_day_nano_interval()
    assert restored(table, note_of(interval)).equals(table)
    assert restored(table, note_of(pa.list_(interval))).equals(table)


LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.binary(): st.binary(),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.duration("us"): st.timedeltas(-timedelta(10**8), timedelta(10**8)),  # Arrow has 64 bits
    pa.decimal128(20, 4): st.decimals(-(10**9), 10**9, places=4),
}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_values_of_any_type_come_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(LEAVES)))
    values: st.SearchStrategy[Any] = st.none() | LEAVES[kind]
    match data.draw(st.integers(0, 2)):
        case 1:
            kind, values = pa.list_(kind), st.none() | st.lists(values, max_size=3)
        case 2:
            kind = pa.struct([("a", kind), ("b", pa.list_(kind))])
            values = st.none() | st.fixed_dictionaries(
                {"a": values, "b": st.none() | st.lists(values, max_size=2)}
            )
    column = pa.array(data.draw(st.lists(values, min_size=1, max_size=5)), kind)
    found = restored(through_json(column), note_of(kind)).column("x").combine_chunks()
    assert (found.type, found.to_pylist()) == (kind, column.to_pylist())
