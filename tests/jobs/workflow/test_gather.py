"""What steps make that need to see all rows: the same as from memory, in bounded memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.workflow.computing import gather
from penstock.jobs.workflow.computing.gather import MAX_FAULTS_TOLD
from penstock.jobs.workflow.row import Row
from penstock.jobs.workflow.spec import Step

from .planned import applied, codes, column, gathered, plan_of, planned, rows_of, step_of

NUMBERS = rows_of({"x": 3}, {"x": 1}, {"x": 3.0}, {"x": True}, {"x": None}, {"x": None}, {"x": "3"})


def test_dedupe_keeps_the_first_of_equal_keys(tmp_path: Path) -> None:
    rows = rows_of({"t": " A"}, {"t": "b"}, {"t": "a "}, {"t": "B"}, {"t": "c"})
    found = gathered(tmp_path, step_of(type="dedupe", key="{{ row.t | trim | lower }}"), rows)
    assert [row.row_id for row in found.rows] == ["0", "1", "4"]
    assert found.num_dropped == 2
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_cannot_be_made_is_the_rows_fault(tmp_path: Path) -> None:
    rows = rows_of({"t": "a"}, {"t": None}, {"t": None}, {"t": "a"})
    key = {"type": "dedupe", "key": "{{ row.t }}"}
    found = gathered(tmp_path, step_of(**key), rows)
    assert [row.row_id for row in found.rows] == ["0", "1", "2"]
    assert codes(found.faults) == {"1": "template_error", "2": "template_error"}
    found = gathered(tmp_path, step_of(**key, on_error="drop"), rows)
    assert [row.row_id for row in found.rows] == ["0"]


def test_rows_without_an_answer_are_no_duplicates(tmp_path: Path) -> None:
    failed = {"t": None, "t__meta": {"status": "failed"}}
    rows = rows_of(failed, failed, {"t": "none"}, {"t": "None"})
    found = gathered(tmp_path, step_of(type="dedupe", key="{{ row.t | lower }}"), rows)
    assert [row.row_id for row in found.rows] == ["0", "1", "2"]
    assert found.faults == []


def test_limit_reads_no_further_than_it_must(tmp_path: Path) -> None:
    def endless() -> Iterator[Row]:
        yield from rows_of({"x": 1}, {"x": 2})
        raise AssertionError("it reads on")

    step = planned(step_of(type="limit", size=2))
    made = gather.gather(plan_of(step), step, [endless()], tmp_path)
    assert [row.row_id for row in made] == ["0", "1"]


def test_a_sample_of_a_size_keeps_the_order(tmp_path: Path) -> None:
    rows = rows_of(*({"x": index} for index in range(300)))
    found = gathered(tmp_path, step_of(type="sample", size=40), rows)
    ids = [int(row.row_id) for row in found.rows]
    assert (len(set(ids)), ids) == (40, sorted(ids))
    assert found.num_dropped == 260
    backwards = gathered(tmp_path, step_of(type="sample", size=40), rows[::-1])
    assert backwards.rows == found.rows[::-1]  # who is chosen does not depend on the order
    other = gathered(tmp_path, step_of(type="sample", size=40, seed=1), rows)
    assert other.rows != found.rows
    whole = gathered(tmp_path, step_of(type="sample", size=301), rows)
    assert (whole.rows, whole.num_dropped) == (rows, 0)


def test_reduce_by_columns_groups_what_is_equal(tmp_path: Path) -> None:
    spec = step_of(type="reduce", group_by=["x"], agg={"n": "count()"})
    found = gathered(tmp_path, spec, NUMBERS, columns=["x", "s"])
    assert [(row.row_id, row.values["x"], row.values["s"]["n"]) for row in found.rows] == [
        ("s#0", 3, 2),
        ("s#1", 1, 1),
        ("s#2", True, 1),
        ("s#3", None, 2),
        ("s#4", "3", 1),
    ]
    assert found.rows[0].parents == ("0", "2")


def test_of_a_large_group_not_all_parents_are_named(tmp_path: Path) -> None:
    rows = rows_of(*({"x": 0} for _ in range(1_500)))
    spec = step_of(type="reduce", group_by=["x"], agg={"n": "count()"})
    found = gathered(tmp_path, spec, rows, columns=["s"])
    assert found.rows[0].values == {"s": {"n": 1_500}}
    assert found.rows[0].parents == tuple(str(index) for index in range(1_000))


SCORED = [
    Row(f"{index % 5}/c#{index}", {"g": index % 3, "x": value, "q": "why"})
    for index, value in enumerate([3, None, "b", 1.5, "a", True, -1, 10**30, 2**63, -(10**400)])
]


@pytest.mark.parametrize("group_by", ["parent", ["g"]])
@pytest.mark.parametrize(
    "way",
    [
        {"agg": {"l": "list(row.x)", "n": "count()", "m": "max(row.x)"}},
        {"agg": {"l": "list(row.x)"}, "order_by": "row.x"},
        {"pick": {"max": "row.x"}},
        {"pick": {"first": "row.x > 0"}, "order_by": "row.x"},
    ],
)
def test_from_a_file_as_from_memory(tmp_path: Path, way: dict[str, Any], group_by: Any) -> None:
    spec: Step = step_of(type="reduce", group_by=group_by, **way)
    columns = ["q", "g", "s"]
    assert gathered(tmp_path, spec, SCORED, columns=columns) == applied(
        spec, SCORED, columns=columns
    )


@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
@pytest.mark.parametrize("on", ["row_id", {"k": "key"}])
def test_a_join_from_a_file_is_that_from_memory(tmp_path: Path, how: str, on: Any) -> None:
    left = rows_of(*({"k": key} for key in (1, 2, None, "1", 1.0, True, [1, {"a": 2}])))
    right = rows_of(*({"key": key} for key in (1.0, [1.0, {"a": 2}], 1, None, "1", 9, 1)))
    spec = step_of(type="join", how=how, on=on, max=2)
    found = gathered(tmp_path, spec, left, right)
    assert found == applied(spec, left, right)
    assert bool(found.rows) or (how, on) == ("anti", "row_id")


def test_concat_of_all_rows(tmp_path: Path) -> None:
    found = gathered(tmp_path, step_of(type="concat"), NUMBERS[:2], NUMBERS[1:3])
    assert [row.row_id for row in found.rows] == ["0/s#0", "1/s#0", "1/s#1", "2/s#1"]


def test_text_that_is_no_utf8_survives(tmp_path: Path) -> None:
    rows = rows_of({"x": "ü", "k": "\udfff"}, {"x": "half \ud800", "k": "\udfff"})
    spec = step_of(type="reduce", group_by=["k"], order_by="row.x", agg={"l": "list(row.x)"})
    found = gathered(tmp_path, spec, rows, columns=["k", "s"])
    assert column(found, "s") == {"s#0": {"l": ["half \ud800", "ü"]}}


def test_of_many_faults_the_first_are_told_and_all_are_counted(tmp_path: Path) -> None:
    rows = [Row(str(index), {"t": None}) for index in range(MAX_FAULTS_TOLD + 5)]
    step = planned(step_of(type="dedupe", key="{{ row.t }}"))
    made = gather.gather(plan_of(step), step, [rows], tmp_path)
    assert sum(1 for _ in made) == len(rows)
    assert len(made.faults) == MAX_FAULTS_TOLD
    assert made.errors == {"template_error": len(rows)}


def test_two_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    step = planned(step_of(type="dedupe", key="{{ row.t }}"))
    rows = rows_of(*({"t": str(index)} for index in range(50)))
    both = [gather.gather(plan_of(step), step, [rows], tmp_path) for _ in range(2)]
    assert [len(list(pair)) for pair in zip(*both, strict=True)] == [2] * 50


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def rows(count: int) -> Iterator[Row]:
        for index in range(count):
            yield Row(str(index), {"g": index % 900, "t": "x" * 2_000})

    def peak(count: int) -> int:
        spec = step_of(type="reduce", group_by=["g"], pick={"max": "row.g"})
        step = planned(spec)
        tracemalloc.start()
        made = gather.gather(plan_of(step), step, [rows(count)], tmp_path)
        assert sum(1 for _ in made) == 900
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(9_000) < peak(1_800) + 2_000_000  # of 14 MB more
