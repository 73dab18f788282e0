"""The rows of a job as somebody reads them who knows nothing but the folder."""

from collections import Counter
from typing import Any

import pyarrow.parquet as pq

from penstock.jobs.model import JobSpec
from penstock.jobs.results_dir import ResultsDir


def rows_of(spec: JobSpec) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted(ResultsDir.of(spec).rows.glob("*.parquet")):
        # `read_table` opens a path twice, and may meet an old footer and a new part's pages.
        with pq.ParquetFile(path) as part:
            rows += part.read().to_pylist()
    return rows


def statuses(spec: JobSpec) -> dict[int, str]:
    """Tell the status of each row, of which none may be there twice."""
    rows = rows_of(spec)
    assert all(count == 1 for count in Counter(row["row_index"] for row in rows).values())
    return {row["row_index"]: row["status"] for row in rows}
