"""One name where several could stand is that one, not its letters."""

import json
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.records import JobRecord
from penstock.api.results_pager import ResultsPager, TablePager
from penstock.api.retry_policy import RetryPolicy
from penstock.api.tables import landed_table

from .scripted import connect, job_json, script


def test_one_code_is_retried() -> None:
    handler, calls = script(httpx2.Response(202, json=job_json()))
    connect(handler).jobs.retry("job_1", codes="engine_error")
    assert json.loads(calls[0].content) == {"codes": ["engine_error"]}


def test_no_code_at_all_is_left_to_the_server_to_refuse() -> None:
    handler, calls = script(httpx2.Response(202, json=job_json()))
    connect(handler).jobs.retry("job_1", codes=[])
    assert json.loads(calls[0].content) == {"codes": []}, "and is not taken for every code"


def test_one_column_is_read_from_disk(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "_SUCCESS").touch()
    pq.write_table(pa.table({"output": ["x"], "other": [1]}), tmp_path / "rows" / "a.parquet")
    record = JobRecord.from_json(job_json(output={"path": str(tmp_path)}))
    table = landed_table(record, "output")
    assert table is not None
    assert table.column_names == ["output"]


@pytest.mark.parametrize("page_rows", [0, 100_000])
def test_a_page_of_too_many_rows_is_told_by_its_own_name(page_rows: int) -> None:
    with pytest.raises(ValueError, match=f"page_rows must be from 1 to 10000, got {page_rows}"):
        ResultsPager("job_1", status=None, follow=False, page_rows=page_rows)


def test_one_column_is_asked_for() -> None:
    pager = TablePager("job_1", columns="output", follow=False)
    send = next(pager.next_page(RetryPolicy()))
    assert send.params["columns"] == ["output"]
