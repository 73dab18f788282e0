"""What an input of Parquet says of its columns goes with the job."""

import base64
import io
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.jobs.inputs import InputRow, open_input
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import RejectedLine, TaskSpec
from penstock.jobs.settings import Settings
from penstock.jobs.submission import FileSource, SubmitRequest, submit


def parquet(table: pa.Table) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(table, file)
    file.seek(0)
    return file


def test_types_that_rows_cannot_say_are_kept_under_the_landed_names(
    settings: Settings, table: JobTable
) -> None:
    rows = pa.table(
        {
            "text": pa.array(["a"], pa.large_string()),
            "plain": [1],
            "small": pa.array([1], pa.int8()),
            "status": pa.array([datetime(2024, 1, 2)], pa.timestamp("us")),
            "never": pa.array([None], pa.int64()),
            "nothing": pa.array([None], pa.null()),
            "numbers": [[1, 2]],
        }
    )
    task = TaskSpec(model="m", prompt="{{ row.text }}")
    spec = submit(settings, table, FileSource(parquet(rows), "a.parquet"), SubmitRequest(task)).spec
    assert spec.arrow_schema is not None
    kept = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(spec.arrow_schema)))
    assert dict(zip(kept.names, kept.types, strict=True)) == {
        "small": pa.int8(),
        "input_status": pa.timestamp("us"),
        "never": pa.int64(),
        "numbers": pa.list_(pa.int64()),
    }


def test_rows_without_types_of_their_own_have_none(settings: Settings, table: JobTable) -> None:
    source = FileSource(io.BytesIO(b'{"text": "a"}\n'), "a.jsonl")
    task = TaskSpec(model="m", prompt="{{ row.text }}")
    assert submit(settings, table, source, SubmitRequest(task)).spec.arrow_schema is None
    plain = FileSource(parquet(pa.table({"text": ["a"]})), "a.parquet")
    assert submit(settings, table, plain, SubmitRequest(task)).spec.arrow_schema is None


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([86_400_000_000_000], pa.timestamp("ns")), "1970-01-02T00:00:00"),
        (pa.array([1], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
        (pa.array([90_000_000_000], pa.duration("ns")), "PT90S"),
        (pa.array([3_600_000_000_000], pa.time64("ns")), "01:00:00"),
    ],
)
def test_nanoseconds_are_read(column: Any, wanted: str) -> None:
    [item] = open_input(parquet(pa.table({"at": column})), filename="a.parquet")
    assert item == InputRow(1, {"at": wanted})


def test_a_moment_that_no_calendar_shows_spoils_its_own_row() -> None:
    column = pa.array([0, 2**62, 0], pa.timestamp("us"))
    items = list(open_input(parquet(pa.table({"at": column})), filename="a.parquet"))
    assert [type(item) for item in items] == [InputRow, RejectedLine, InputRow]
    assert [item.line for item in items] == [1, 2, 3]
