import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.api.records import JobRecord, Row
from penstock.api.tables import landed_table, table_of
from penstock.jobs.durable import replace_file
from penstock.jobs.model import JobState

_PEAK = """
from tests.api.test_tables import rows
from tests.jobs.memory import peak_growth_mb
from penstock.api.tables import table_of
table_of(rows(10))
tables = []
print(peak_growth_mb(lambda: tables.append(table_of(rows(100_000)))), tables[0].nbytes / 2**20)
"""


def rows(num_rows: int) -> Any:
    for index in range(num_rows):
        failed = index > 15_000 and index % 5_000 == 0
        yield Row(
            {
                "row_index": index,
                "custom_id": f"id{index}",
                "status": "failed" if failed else "succeeded",
                "output": None if failed else f"the answer to row {index}",
                "error": {"code": "engine_error", "retryable": False} if failed else None,
                "score": index if index < 10_000 else index + 0.5,
                **{f"column{number}": f"text {index} {number}" for number in range(12)},
            }
        )


def test_rows_become_the_table_that_they_would_be_at_once() -> None:
    for num_rows in (0, 1, 10_000, 25_000):
        found = table_of(rows(num_rows))
        wanted = pa.Table.from_pylist([{**row} for row in rows(num_rows)])
        assert found.schema == wanted.schema
        assert found.to_pylist() == wanted.to_pylist()


def test_a_table_takes_little_more_memory_than_its_columns() -> None:
    """In a process of its own: what tests before it have freed would hide what it takes."""
    told = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    peak_mb, table_mb = map(float, told.stdout.split())
    assert peak_mb < 3 * table_mb + 80


def part_of(status: str, num_rows: int) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"status": [f"{status} {row}" for row in range(num_rows)]}), sink)
    return sink.getvalue().to_pybytes()


def test_a_part_that_a_retry_replaces_is_read_as_it_was_or_as_it_is(tmp_path: Path) -> None:
    parts = [part_of("failed", 10), part_of("succeeded", 1000)]
    path = tmp_path / "rows" / "part-00000.parquet"
    path.parent.mkdir()
    replace_file(path, parts[0])
    (tmp_path / "_SUCCESS").touch()
    record = JobRecord("job", JobState.COMPLETED, output_path=str(tmp_path))
    is_over = threading.Event()

    def join_again_and_again() -> None:
        while not is_over.is_set():
            for part in reversed(parts):
                replace_file(path, part)

    writer = threading.Thread(target=join_again_and_again)
    writer.start()
    try:
        tables = [landed_table(record) for _ in range(300)]
    finally:
        is_over.set()
        writer.join()
    assert {None if table is None else table.num_rows for table in tables} <= {10, 1000}
