"""Pages of rows as one file: how it is cut does not follow how it was read."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api import result_formats
from penstock.api.result_formats import result_encoder
from penstock.jobs.model import JobSpec, TaskSpec
from penstock.jobs.results import Page

SPEC = JobSpec(
    job_id="job_1",
    task=TaskSpec(model="fake", prompt="x"),
    num_rows=70,
    num_shards=1,
    shard_rows=70,
    columns={},
    out="out",
    created_at_ms=0,
)


def group_rows(pages: list[pa.Table]) -> list[int]:
    """How many rows each row group has of a Parquet file of all pages."""
    encoder = result_encoder("parquet", SPEC, None)
    written = b"".join(encoder.write(Page(table, None, complete=True)) for table in pages)
    file = pq.ParquetFile(io.BytesIO(written + encoder.end()))
    assert file.read().equals(pa.concat_tables(pages))
    return [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]


def test_pages_gather_to_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [pa.table({"n": range(10 * page, 10 * page + 10)}) for page in range(7)]
    assert group_rows(pages) == [70]
    assert group_rows([pages[0].slice(0, 0)]) == []
    monkeypatch.setattr(result_formats, "GROUP_ROWS", 25)
    assert group_rows(pages) == [30, 30, 10]
    monkeypatch.setattr(result_formats, "GROUP_BYTES", 160)
    assert group_rows(pages) == [20, 20, 20, 10]
    assert group_rows([page.slice(0, 1) for page in pages]) == [2, 2, 2, 1]
