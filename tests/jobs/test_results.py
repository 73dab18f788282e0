from typing import Any

import pytest

from penstock.jobs import results
from penstock.jobs.errors import UnknownJob
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import CorruptPart
from penstock.jobs.model import JobSpec, JobState, RowStatus
from penstock.jobs.results import InvalidCursor, Page, read_results
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.row_schema import row_schema

from .conftest import JobMaker, ShardRunner, SpecMaker


def told(page: Page) -> tuple[list[dict[str, Any]], str | None, bool]:
    return page.rows, page.next_cursor, page.complete


def walk(table: JobTable, spec: JobSpec, limit: int, status: RowStatus | None = None) -> list[int]:
    """Read everything there is, page by page."""
    indexes: list[int] = []
    cursor: str | None = None
    while True:
        page = read_results(table, spec, cursor, limit, status)
        assert len(page.rows) <= limit
        indexes += [row["row_index"] for row in page.rows]
        if page.next_cursor is None or not page.rows:
            return indexes
        cursor = page.next_cursor


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 100])
def test_pages_of_any_size_hold_every_row_once_in_order(
    table: JobTable, make_job: JobMaker, run_shards: ShardRunner, limit: int
) -> None:
    spec = make_job(num_rows=10, shard_rows=4)
    run_shards(spec, failing=(2, 9))
    assert walk(table, spec, limit) == list(range(10))
    assert walk(table, spec, limit, RowStatus.FAILED) == [2, 9]
    assert walk(table, spec, limit, RowStatus.SUCCEEDED) == [0, 1, 3, 4, 5, 6, 7, 8]
    [row] = read_results(table, spec, "s0r3", 1).rows
    assert (row["custom_id"], row["id"], row["text"]) == ("r3", "r3", "text 3")
    assert row["output"] == "answer to text 3"


def test_a_page_of_rare_rows_reads_so_many_parts_and_no_more(
    table: JobTable, make_job: JobMaker, run_shards: ShardRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_MAX_PARTS", 2)
    spec = make_job(num_rows=20, shard_rows=4)
    run_shards(spec, failing=(17,))
    pages = [read_results(table, spec, after, 9, RowStatus.FAILED) for after in (None, "s2r0")]
    assert [told(page) for page in pages] == [([], "s2r0", True), ([], "s4r0", True)]
    [row] = read_results(table, spec, "s4r0", 9, RowStatus.FAILED).rows
    assert row["row_index"] == 17


def test_where_no_row_has_failed_no_part_is_read(
    table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=10, shard_rows=4)
    run_shards(spec, [0])
    ResultsDir.of(spec).part(0).unlink()
    page = read_results(table, spec, None, 9, RowStatus.FAILED)
    assert told(page) == ([], "s0r0", False)
    assert page.table.schema == row_schema(spec)


def test_a_cursor_never_skips_a_shard_that_lands_later(
    table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=10, shard_rows=4)
    assert told(read_results(table, spec, None, 100)) == ([], "s0r0", False)
    run_shards(spec, [0, 2])
    page = read_results(table, spec, None, 100)
    assert [row["row_index"] for row in page.rows] == [0, 1, 2, 3]
    assert (page.next_cursor, page.complete, page.incomplete) == ("s1r0", False, True)
    assert read_results(table, spec, page.next_cursor, 100).rows == []
    run_shards(spec, [1])
    page = read_results(table, spec, page.next_cursor, 100)
    assert [row["row_index"] for row in page.rows] == [4, 5, 6, 7, 8, 9]
    assert (page.next_cursor, page.complete) == (None, True)


def test_a_part_counts_only_when_it_is_committed(
    table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=10, shard_rows=4)
    run_shards(spec, [0])
    (ResultsDir.of(spec).part(1)).write_bytes(ResultsDir.of(spec).part(0).read_bytes())
    page = read_results(table, spec, None, 100)
    assert [row["row_index"] for row in page.rows] == [0, 1, 2, 3]


def test_a_cancelled_job_shows_what_has_landed_and_ends_there(
    table: JobTable, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    spec = make_job(num_rows=10, shard_rows=4)
    run_shards(spec, [0, 2])
    table.finish(spec.job_id, JobState.CANCELLED)
    page = read_results(table, spec, None, 100)
    assert [row["row_index"] for row in page.rows] == [0, 1, 2, 3, 8, 9]
    assert (page.next_cursor, page.complete) == (None, True)


@pytest.mark.parametrize("cursor", ["", "x", "s1", "s-1r0", "s99r0", "s1r1 ", "s1r1\n"])
def test_a_cursor_of_nobody_is_refused(table: JobTable, make_job: JobMaker, cursor: str) -> None:
    with pytest.raises(InvalidCursor, match="is not a cursor of job_") as caught:
        read_results(table, make_job(), cursor, 10)
    assert caught.value.param == "after"


def test_an_unknown_job_and_a_lost_part_are_told(
    table: JobTable, make_spec: SpecMaker, make_job: JobMaker, run_shards: ShardRunner
) -> None:
    with pytest.raises(UnknownJob):
        read_results(table, make_spec(), None, 10)
    spec = make_job()
    run_shards(spec)
    ResultsDir.of(spec).part(1).unlink()
    assert len(read_results(table, spec, None, 4).rows) == 4
    with pytest.raises(CorruptPart, match=r"part-000001\.parquet"):
        read_results(table, spec, "s1r0", 4)
