from pathlib import Path

import pytest

from penstock.jobs.model import RequestError
from penstock.jobs.part_file import CorruptPart
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.workflow.plan import ColumnKind
from penstock.jobs.workflow.row import Row
from penstock.jobs.workflow.workshop.shard_file import (
    OUT_OF_RANGE,
    fitted,
    read_report,
    read_shard,
    write_shard,
)
from penstock.jobs.workflow.workshop.shard_report import MAX_EXAMPLES, ShardReport, summed

COLUMNS: dict[str, ColumnKind] = {
    "flag": "bool",
    "count": "int64",
    "share": "float64",
    "text": "string",
    "document": "json",
    "meaning": "vector",
}
VALUES = {
    "flag": True,
    "count": 2**62,
    "share": 0.5,
    "text": "é\n",
    "document": {"a": [1, None, "x"]},
    "meaning": [0.5, -2.0],
}


@pytest.fixture
def place(tmp_path: Path) -> ResultsDir:
    return ResultsDir(tmp_path / "step")


def test_rows_come_back_with_their_lineage_and_values(place: ResultsDir) -> None:
    rows = [
        Row("3/cand#1", VALUES),
        Row("report#0", dict.fromkeys(COLUMNS), parents=("1", "2")),
    ]
    write_shard(place, 0, fitted(rows, COLUMNS), ShardReport(rows_in=2, rows_out=2))
    assert read_shard(place.part(0), COLUMNS) == rows


def test_a_shard_may_be_empty(place: ResultsDir) -> None:
    write_shard(place, 4, fitted([], COLUMNS), ShardReport(rows_in=7, dropped=7))
    assert read_shard(place.part(4), COLUMNS) == []
    assert read_report(place.part(4)).dropped == 7


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("int64", "12", None),
        ("int64", 2**63, None),
        ("bool", 1, None),
        ("float64", 3, 3.0),
        ("float64", 10**400, None),
        ("float64", "0.5", None),
        ("string", {"a": 1}, '{"a":1}'),
        ("string", "\ud800", "?"),
        ("json", 10**30, 10**30),
        ("json", ["\ud800"], ["?"]),
        ("vector", "text", None),
    ],
)
def test_a_value_of_another_kind_costs_no_part(
    place: ResultsDir, kind: ColumnKind, value: object, read: object
) -> None:
    shard = fitted([Row("0", {"x": value})], {"x": kind})
    write_shard(place, 0, shard, ShardReport())
    (row,) = read_shard(place.part(0), {"x": kind})
    assert row.values["x"] == read
    codes = [fault.error.code for fault in shard.misfits]
    assert codes == ([] if read is not None else [OUT_OF_RANGE])


def test_rows_that_lost_a_value_count_as_failed(place: ResultsDir) -> None:
    columns: dict[str, ColumnKind] = {"a": "int64", "b": "bool"}
    values = [{"a": 1, "b": True}, {"a": 2**63, "b": 1}, {"a": None, "b": None}, {"a": 2, "b": 0}]
    rows = [Row(str(number), each) for number, each in enumerate(values)]
    before = ShardReport(rows_in=5, rows_out=4, failed=1, errors={"template_error": 1})
    shard = fitted(rows, columns)
    report = write_shard(place, 0, shard, before.with_faults(shard.misfits))
    assert (report.rows_in, report.rows_out, report.failed) == (5, 4, 3)
    assert report.errors == {"template_error": 1, OUT_OF_RANGE: 2}
    assert read_report(place.part(0)) == report
    assert [row.values for row in read_shard(place.part(0), columns)] == [
        {"a": 1, "b": True},
        {"a": None, "b": None},
        {"a": None, "b": None},
        {"a": 2, "b": None},
    ]


def test_what_an_input_calls_as_errors_are_called_stays(place: ResultsDir) -> None:
    columns: dict[str, ColumnKind] = {"a": "string", "a__error": "string"}
    rows = [Row("0", {"a": None, "a__error": "of the input"})]
    errors = {"0": RequestError("engine_error", "of the step")}
    report = ShardReport(rows_in=1, rows_out=1)
    write_shard(place, 0, fitted(rows, columns), report, errors, "a__error")
    assert read_shard(place.part(0), columns) == rows


def test_the_first_writer_wins(place: ResultsDir) -> None:
    write_shard(place, 0, fitted([Row("0", VALUES)], COLUMNS), ShardReport(rows_out=1))
    standing = write_shard(place, 0, fitted([], COLUMNS), ShardReport(rows_out=0))
    assert standing.rows_out == 1
    assert len(read_shard(place.part(0), COLUMNS)) == 1


def test_a_flipped_byte_is_noticed(place: ResultsDir) -> None:
    write_shard(place, 0, fitted([Row("0", VALUES)], COLUMNS), ShardReport())
    data = bytearray(place.part(0).read_bytes())
    data[len(data) // 2] ^= 1
    place.part(0).write_bytes(bytes(data))
    with pytest.raises(CorruptPart):
        read_shard(place.part(0), COLUMNS)
    with pytest.raises(CorruptPart):
        read_shard(place.part(1), COLUMNS)


def test_reports_add_up() -> None:
    told = ("7", "b", "why")
    first = ShardReport(rows_in=3, rows_out=2, failed=1, errors={"a": 1}, prompt_tokens=5)
    second = ShardReport(
        rows_in=1, dropped=1, errors={"a": 1, "b": 2}, fatal=told, examples=(told,) * 30
    )
    assert summed([first, second]) == ShardReport(
        rows_in=4,
        rows_out=2,
        dropped=1,
        failed=1,
        errors={"a": 2, "b": 2},
        prompt_tokens=5,
        fatal=told,
        examples=(told,) * MAX_EXAMPLES,
    )
