"""Decimals and durations are text in a workflow: nobody orders them so, or mixes their scales."""

import pyarrow as pa
import pytest

from penstock.jobs.workflow.checks.check import InvalidWorkflow, check
from penstock.jobs.workflow.checks.text_numbers import check_text_numbers
from penstock.jobs.workflow.plan import ColumnKind

from .checked import workflow_of

TYPES = {
    "k": pa.string(),
    "price": pa.decimal128(6, 2),
    "cost": pa.decimal128(9, 2),
    "rate": pa.decimal256(50, 3),
    "took": pa.duration("us"),
    "day": pa.date32(),
    "n": pa.int64(),
}
KINDS: dict[str, ColumnKind] = {**dict.fromkeys(TYPES, "string"), "n": "int64"}
FIRST = "id: m, type: map, set: {n: '1'}"


def told(steps: str, **more: pa.DataType) -> dict[str, str]:
    """Return what is wrong, by place; `more` are columns of a second input that are others."""
    names = ("rows", "more") if more else ("rows",)
    workflow = workflow_of(steps, inputs={name: {} for name in names})
    plan = check(workflow, {}, dict.fromkeys(names, KINDS))
    schemas = {"rows": pa.schema(TYPES), "more": pa.schema({**TYPES, **more})}
    try:
        check_text_numbers(plan, {name: schemas[name] for name in names})
    except InvalidWorkflow as error:
        return {problem.where: problem.message for problem in error.problems}
    return {}


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ("type: filter, where: row.price > '9'", "where"),
        ("type: filter, where: row.n > 1 and not ('1' <= row.price)", "where"),
        ("type: filter, where: row.price == row.rate", "where"),
        ("type: map, set: {m: 'max(row.price, row.cost)'}", "set.m"),
        ("type: generate, prompt: x, n: 2, until: row.price < row.r", "until"),
        ("type: reduce, group_by: [k], agg: {m: max(row.price)}", "agg.m"),
        ("type: reduce, group_by: [k], agg: {m: min(row.price) ~ 'x'}", "agg.m"),
        ("type: reduce, group_by: [k], pick: {max: row.price}", "pick.max"),
        ("type: reduce, group_by: [k], pick: {min: row.price}", "pick.min"),
        ("type: reduce, group_by: [k], pick: {first: row.price > '1'}", "pick.first"),
        ("type: reduce, group_by: [k], order_by: price, agg: {all: list(row.n)}", "order_by"),
        ("type: reduce, group_by: [k], order_by: row.price, prompt: x", "order_by"),
    ],
)
def test_a_decimal_is_not_ordered_as_text(step: str, field: str) -> None:
    found = told(f"{FIRST}\nid: r, {step}")
    assert found.keys() == {f"steps.r.{field}"}
    (message,) = found.values()
    assert " in the input; here it is text" in message
    assert "write float(row." in message


def test_a_duration_is_brought_as_a_number() -> None:
    found = told("id: r, type: reduce, group_by: [k], pick: {max: row.took}")
    assert "row.took was duration[us] in the input" in found["steps.r.pick.max"]
    assert "such as its seconds" in found["steps.r.pick.max"]


@pytest.mark.parametrize(
    "step",
    [
        "type: filter, where: float(row.price) > 9",
        "type: filter, where: row.price == row.cost and row.price != '1.50' and row.price",
        "type: filter, where: row.day > '2026-01-01' and row.k < 'b'",
        "type: reduce, group_by: [price], order_by: row.price | float, pick: {max: row.day}",
        "type: reduce, group_by: [k], agg: {m: max(float(row.price)), l: list(row.price)}",
        "type: dedupe, key: '{{ row.price }}'",
    ],
)
def test_what_goes_right_is_left_alone(step: str) -> None:
    assert told(f"{FIRST}\nid: r, {step}") == {}


def test_decimals_of_other_scales_are_not_joined() -> None:
    join = "id: j, type: join, from: [inputs.rows, inputs.more], 'on': price"
    same, other = pa.decimal128(12, 2), pa.decimal128(6, 1)
    assert told(join, price=same) == told(join, price=pa.string()) == {}
    found = told(join, price=other)["steps.j.on"]
    assert "other scales, decimal128(6, 2) and decimal128(6, 1)" in found


def test_rows_of_two_inputs_have_what_either_says() -> None:
    both = """
        id: all, type: concat, from: [inputs.rows, inputs.more]
        id: f, type: filter, where: row.k > 'a'
        """
    assert told(both, n=pa.int64()) == {}
    assert told(both, k=pa.decimal128(4, 1)).keys() == {"steps.f.where"}
