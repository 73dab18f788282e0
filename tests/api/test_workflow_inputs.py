"""The first rows of a file, and how many it has, whatever its format."""

import gzip
import json
import os
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.api.client_errors import InvalidInput
from penstock.api.workflow_inputs import count_of, sample_of

ROWS = [{"id": str(number), "text": f"a ] {number}"} for number in range(5)]
TABLE = [list(ROWS[0]), *(row.values() for row in ROWS)]
FILES = {
    "rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "rows.json": json.dumps(ROWS, indent=2),
    "array.jsonl": json.dumps(ROWS),
    "rows.csv": "".join(",".join(line) + "\n" for line in TABLE),
    "rows.tsv": "".join("\t".join(line) + "\n" for line in TABLE),
    "rows.tab": "".join("\t".join(line) + "\n" for line in TABLE),
}


@pytest.mark.parametrize("name", FILES)
def test_the_first_rows_of_a_file_and_their_number(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    assert sample_of(path, 3) == {"rows": ROWS[:3]}
    assert count_of(path) == 5


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\r\n\r\n \t\n')
    assert sample_of(path) == {"rows": [{"a": 1}]}
    assert count_of(path) == 1
    path = path.with_suffix(".tsv")
    path.write_text("a\tb\n\t\n1\t2\n")  # two empty values are a row
    assert count_of(path) == len(sample_of(path)["rows"]) == 2


def test_packed_files_and_pipes_are_read_as_what_is_in_them(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(text.encode()))
        assert sample_of(path, 3) == {"rows": ROWS[:3]}
        assert count_of(path) == 5
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(FILES["rows.jsonl"],))
    writer.start()
    assert sample_of(pipe) == {"rows": ROWS}
    writer.join()


def test_what_the_server_takes_for_no_row_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": NaN}\n{"a": "\\ud800"}\n{"a": "\xff"}\nnope\n[1]\n{"a": 1}\n')
    assert sample_of(path) == {"rows": [{"a": 1}]}
    path = path.with_suffix(".csv")
    path.write_bytes(b'a,b\n1\n2,3,4\n5,\xff\n"' + b"x" * 200_000 + b'",6\n')
    assert sample_of(path) == {"rows": [{"a": "x" * 200_000, "b": "6"}]}
    table = tmp_path / "nan.parquet"
    pq.write_table(pa.table({"a": [float("nan"), 1.0]}), table)
    assert sample_of(table) == {"rows": [{"a": None}, {"a": 1.0}]}


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.csv", b"a,a\n1,2\n", "must name every column, once: 'a' stands there 2 times"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "it is UTF-16"),
        ("a.csv", b"PK\x03\x04", "it is a ZIP archive"),
        ("a.jsonl", b"", "it is empty"),
        ("a.txt", b"hello\n", "cannot tell the format"),
        ("a.parquet", b'{"a": 1}\n', "as Parquet"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-20], "ended before"),
    ],
)
def test_what_is_no_input_is_refused_in_the_servers_words(
    tmp_path: Path, name: str, data: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=says):
        sample_of(path)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("~nobody-of-that-name/rows.jsonl", "no home directory is known of ~nobody-of-that-name"),
        (Path("~nobody-of-that-name"), "cannot find ~nobody-of-that-name: no home directory"),
        ("rows\0.jsonl", r"cannot read 'rows\\x00\.jsonl': embedded null"),
        ("file:///rows%00.jsonl", r"cannot read '/rows\\x00\.jsonl': embedded null"),
    ],
)
def test_a_path_that_can_name_no_file_is_told(rows: str | Path, says: str) -> None:
    for ask in (sample_of, count_of):
        with pytest.raises(InvalidInput, match=says):
            ask(rows)


@pytest.mark.parametrize("text", [str, Path])
def test_a_file_without_rows_is_named_as_it_was_given(tmp_path: Path, text: type) -> None:
    path = tmp_path / ("long" * 20) / "rows.jsonl"
    path.parent.mkdir()
    path.write_text("[]\n")
    with pytest.raises(InvalidInput) as caught:
        sample_of(text(path))
    assert str(caught.value) == f"there are no rows in {path}"
    with pytest.raises(InvalidInput, match=r"there are no rows in \[\]$"):
        sample_of([])


def test_what_might_never_end_is_not_begun() -> None:
    for ask in (sample_of, count_of):
        with pytest.raises(InvalidInput, match="it is a device"):
            ask("/dev/null")


def test_a_broken_array_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n{"a": 1},\n{"a":')
    with pytest.raises(InvalidInput, match=r"rows\.json: .* breaks off in line 3"):
        sample_of(path)
    with pytest.raises(InvalidInput, match="breaks off in line 3"):
        count_of(path)
