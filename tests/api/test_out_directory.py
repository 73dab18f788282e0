"""Where a command brings rows to is tried before anything is spent, and told afterwards."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from penstock.api.cli_options import UsageProblem
from penstock.api.client_errors import PenstockError
from penstock.api.out_directory import bring_rows, check_writable


class Job:
    id = "job_1"

    def __init__(self) -> None:
        self.num_asked = 0

    def to_arrow(self) -> pa.Table:
        self.num_asked += 1
        return pa.table({"output": ["x"]})


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    check_writable(tmp_path / "there")
    check_writable(tmp_path / "new" / "and" / "deep")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nope"])
def test_what_cannot_be_written_to_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match=r"cannot write to .*choose another --out"):
        check_writable(tmp_path / place)


def test_rows_are_brought_once(tmp_path: Path) -> None:
    job, path = Job(), tmp_path / "job_1" / "rows" / "part-000000.parquet"
    bring_rows(job, path)
    bring_rows(job, path)
    assert job.num_asked == 1
    assert parquet.read_table(path).num_rows == 1


def test_rows_that_cannot_be_brought_are_still_with_the_server(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PenstockError, match="penstock results job_1"):
        bring_rows(Job(), tmp_path / "file" / "rows" / "part-000000.parquet")
