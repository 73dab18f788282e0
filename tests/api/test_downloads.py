"""Where results go on this machine, and that what is there is whole."""

import gc
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.client_errors import InvalidInput
from penstock.api.downloads import download_path, open_download
from penstock.api.tables import save_parquet

FIRST, SECOND = pa.table({"x": list(range(1000))}), pa.table({"x": [1]})


@pytest.mark.parametrize(
    ("given", "goes_to"),
    [
        ("rows.parquet", "rows.parquet"),
        ("out/v1.2/rows.jsonl", "out/v1.2/rows.jsonl"),
        ("out", "out/job_1.parquet"),
        ("out/v1.2", "out/v1.2/job_1.parquet"),
        ("run.final", "run.final/job_1.parquet"),
        ("rows.parquet/", "rows.parquet/job_1.parquet"),
        ("rows.csv/", "rows.csv/job_1.parquet"),
    ],
)
def test_only_a_known_suffix_means_a_file(given: str, goes_to: str) -> None:
    assert download_path(given, "job_1") == Path(goes_to)


def test_a_directory_that_is_there_is_one_whatever_its_name(tmp_path: Path) -> None:
    directory = tmp_path / "all.parquet"
    directory.mkdir()
    assert download_path(directory, "job_1") == directory / "job_1.parquet"


def test_another_format_is_refused_with_both_ways_out() -> None:
    with pytest.raises(InvalidInput, match=r"rows\.csv: end it in \.parquet or \.jsonl, or in a s"):
        download_path("rows.csv", "job_1")


def test_two_downloads_to_one_path_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    with open_download(path) as first:
        first.write(FIRST)
        with open_download(path) as second:
            second.write(SECOND)
        save_parquet(SECOND, path)
        assert pq.read_table(path).equals(SECOND)
    assert pq.read_table(path).equals(FIRST), "the last one wins, with all that it wrote"
    assert list(tmp_path.iterdir()) == [path]


def test_a_download_that_breaks_off_leaves_nothing_and_says_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    with pytest.raises(ZeroDivisionError), open_download(tmp_path / "rows.parquet") as download:
        download.write(FIRST)
        raise ZeroDivisionError
    del download
    gc.collect()
    assert (unheard, list(tmp_path.iterdir())) == ([], [])
