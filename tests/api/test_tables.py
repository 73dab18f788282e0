import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.api.records import JobRecord
from penstock.api.tables import landed_table
from penstock.jobs.durable import replace_file
from penstock.jobs.model import JobState


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
