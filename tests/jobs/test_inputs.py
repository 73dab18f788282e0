import bz2
import datetime
import decimal
import errno
import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.jobs.input_row import MAX_LINE_BYTES, InputRow, UnreadableInput
from penstock.jobs.inputs import open_input, rows_input
from penstock.jobs.model import RejectedLine


def read(data: bytes, format: str | None = None) -> tuple[dict[int, Any], dict[int, str]]:
    """Rows and complaints by line."""
    items = list(open_input(io.BytesIO(data), format))
    rows = {item.line: item.row for item in items if isinstance(item, InputRow)}
    bad = {item.line: item.message for item in items if isinstance(item, RejectedLine)}
    assert len(rows) + len(bad) == len(items)
    return rows, bad


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def test_json_lines_with_every_kind_of_bad_line_among_good_ones() -> None:
    lines = [
        b'\xef\xbb\xbf{"a": 1}',
        b"",
        b'{"a": "\xff"}',
        b"[1]",
        b"null",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"1" * 5_000 + b"}",
        b'{"a":' * 5_000,
        b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}",
        b'  {"b": "\\u0000 caf\xc3\xa9"} \r',
        b'{"last": true}',
    ]
    rows, bad = read(b"\n".join(lines))
    assert rows == {1: {"a": 1}, 13: {"b": "\0 café"}, 14: {"last": True}}
    assert set(bad) == {3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
    assert bad[4] == "must be a JSON object with the row's columns, got list"
    assert "trailing comma" in bad[6]
    assert bad[7] == "is not JSON: NaN is no number there; write null"
    assert bad[9] == "is not JSON: a text holds half of a character, a lone surrogate"
    assert bad[11] == bad[12] == "is nested more than 64 levels deep"


def test_an_object_that_goes_over_lines_is_told_of_as_such() -> None:
    rows, bad = read(b'{"a": 1}\n\xef\xbb\xbf{"a": 2}\n{\n "a": 3\n}\n')
    assert rows == {1: {"a": 1}, 2: {"a": 2}}  # the second was the first of another file
    assert bad[3] == "is not JSON: it ends before its object does; each row is one whole line"


def test_a_line_too_long_to_be_held_is_passed_over() -> None:
    long = b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}'
    rows, bad = read(b'{"a": 1}\n' + long + b'\n{"a": 2}\n' + long)
    assert rows == {1: {"a": 1}, 3: {"a": 2}}
    assert bad == {2: "is longer than 16 MiB", 4: "is longer than 16 MiB"}
    _, bad = read(b"\xef\xbb\xbf" + long + b"\n1\n", "jsonl")
    assert bad[1] == "is longer than 16 MiB", "and what marks the beginning cuts no line in two"
    assert set(bad) == {1, 2}


def test_csv_with_quotes_and_bad_lines() -> None:
    data = 'id,text\n1,plain\n2\n3,"two\nlines, and ""quotes"""\n\n4,é\n5,"ope"n\n6,z\n7,"no end'
    rows, bad = read(data.encode(), "csv")
    assert rows == {
        2: {"id": "1", "text": "plain"},
        4: {"id": "3", "text": 'two\nlines, and "quotes"'},
        7: {"id": "4", "text": "é"},
        9: {"id": "6", "text": "z"},
    }
    assert bad[3] == "has 1 field, the header names 2 columns: nothing stands for 'text'"
    assert "a quote opens in it that never closes" in bad[10]
    assert set(bad) == {3, 8, 10}
    _, bad = read(b"a,b\nx,\xff\n1,2,3\n", "csv")
    assert bad[2] == "is not UTF-8 in column 'b'"
    assert bad[3].startswith("has 3 fields, the header names 2 columns: a text that holds a comma")


def test_a_long_csv_field_is_fine_and_an_endless_line_is_not() -> None:
    rows, _ = read(b'a\n"' + b"x" * 1_000_000 + b'"\n', "csv")
    assert len(rows[2]["a"]) == 1_000_000
    with pytest.raises(UnreadableInput, match="its line 2 is longer than 16 MiB"):
        read(b"a\n" + b"x" * (MAX_LINE_BYTES + 10), "csv")


def test_parquet_values_become_json() -> None:
    table = pa.table(
        {
            "date": [datetime.date(2020, 1, 2)],
            "price": [decimal.Decimal("1.50")],
            "nan": [float("nan")],
            "bytes": [b"ab"],
            "list": [[1, 2]],
            "struct": [{"k": None}],
        }
    )
    rows, bad = read(parquet(table))
    assert not bad
    assert rows == {
        1: {
            "date": "2020-01-02",
            "price": "1.50",
            "nan": None,
            "bytes": "YWI=",
            "list": [1, 2],
            "struct": {"k": None},
        }
    }


@pytest.mark.parametrize("damage", ["no footer", "bytes in the middle"])
def test_damaged_parquet_is_refused(damage: str) -> None:
    data = bytearray(parquet(pa.table({"a": [f"row {i}" for i in range(1_000)]})))
    if damage == "no footer":
        del data[-20:]
    else:
        data[40:90] = b"z" * 50
    with pytest.raises(UnreadableInput, match="as Parquet"):
        read(bytes(data), "parquet")


def test_damage_amid_parquet_is_told_with_its_line_and_column() -> None:
    file = io.BytesIO()
    table = pa.table({"id": range(300), "text": [f"row {n}" for n in range(300)]})
    pq.write_table(
        table, file, row_group_size=100, write_page_checksum=True, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    data = bytearray(file.getvalue())
    place = data.index(b"row 250")
    data[place : place + 7] = b"raw 250"
    lines: list[int] = []
    with pytest.raises(UnreadableInput, match=r"line 201, column 'text' or soon behind it: .*CRC"):
        lines.extend(item.line for item in open_input(io.BytesIO(bytes(data)), "parquet"))
    assert lines == list(range(1, 201))
    stored: Any = pa.BufferReader(bytes(data))  # as an object of a store is opened
    with pytest.raises(UnreadableInput, match="line 201 or soon behind it: "):
        list(open_input(io.BufferedReader(stored), "parquet"))


def test_a_disk_that_fails_is_blamed_on_no_column() -> None:
    class FailingDisk(io.BytesIO):
        fails_next = False
        num_failures = 0

        def read(self, size: int | None = -1, /) -> bytes:
            if self.fails_next:
                self.num_failures += 1
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    whole = io.BytesIO()
    pq.write_table(pa.table({"id": range(3_000)}), whole, row_group_size=1_000)
    file = FailingDisk(whole.getvalue())
    rows = open_input(file, "parquet")
    assert next(rows).line == 1
    file.fails_next = True
    with pytest.raises(UnreadableInput, match=r"line 1001 or soon behind it: .*Input/output"):
        list(rows)
    assert file.num_failures == 1, "and not tried again"


def test_a_cell_that_no_row_can_hold_is_told_with_its_column() -> None:
    moments = pa.array([0, 10**18], pa.timestamp("ms"))
    rows, bad = read(parquet(pa.table({"a": [1, 2], "when": moments})))
    assert rows == {1: {"a": 1, "when": "1970-01-01T00:00:00"}}
    assert bad[2].startswith("cannot be written as JSON: column 'when': ")
    for unit in ("us", "ns"):
        moments = pa.array([1_001, None], pa.timestamp(unit, "Mars/Phobos"))
        rows, bad = read(parquet(pa.table({"a": [1, 2], "when": moments})))
        assert rows == {2: {"a": 2, "when": None}}
        assert bad[1].endswith("column 'when': no time zone is known as 'Mars/Phobos'")
    [item] = rows_input([{"a": 1, "b": object()}])
    assert isinstance(item, RejectedLine)
    assert "column 'b'" in item.message


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b"hello\n", "cannot tell the format"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (b"PK\x03\x04rest", "spreadsheet"),
        (b"ARROW1\0\0rest", "write it as Parquet"),
        (bz2.compress(b"rest"), "bzip2"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_input_is_refused_as_a_whole(data: bytes, complaint: str) -> None:
    with pytest.raises(UnreadableInput, match=complaint):
        open_input(io.BytesIO(data))


def test_a_header_may_begin_as_an_archive_does() -> None:
    assert read(b"BZhang,b\n1,2\n", "csv") == ({2: {"BZhang": "1", "b": "2"}}, {})


def test_a_header_must_name_each_column_once() -> None:
    for data, fault in (
        (b"b,a,a\n1,2,3\n", "'a' stands there 2 times"),
        (b"a,,b\n1,2,3\n", "column 2 has no name"),
        (b"\n1\n", "it is blank"),
        (b"gr\xf6\xdfe\n1\n", "it is not UTF-8"),
    ):
        with pytest.raises(UnreadableInput, match=f"must name every column, once: {fault}"):
            read(data, "csv")
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(UnreadableInput, match="have the same name, 'a'"):
        read(parquet(table))


def test_semicolons_are_no_commas() -> None:
    with pytest.raises(UnreadableInput, match="holds semicolons and no comma"):
        read(b"a;b\n1;2\n", "csv")
    assert read(b"a;b,c\n1,2\n", "csv") == ({2: {"a;b": "1", "c": "2"}}, {})


def test_a_wrong_name_is_told_at_once_not_line_by_line() -> None:
    for data, says in (
        (parquet(pa.table({"a": [1]})), "it is Parquet, whatever its name says"),
        ('{"a": 1}'.encode("utf-16-le"), "it holds zero bytes, as UTF-16 does"),
    ):
        with pytest.raises(UnreadableInput, match=says):
            open_input(io.BytesIO(data), filename="a.jsonl")


def test_paths_are_told_by_suffix_and_refused_with_their_cause(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("{\n1\n")  # by its content it could be JSON
    assert list(open_input(path)) == [InputRow(2, {"{": "1"})]
    assert list(open_input(io.BytesIO(b"{\n1\n"), filename="a.csv")) == [InputRow(2, {"{": "1"})]
    with pytest.raises(UnreadableInput, match=r"gone\.jsonl: No such file"):
        open_input(tmp_path / "gone.jsonl")
    with pytest.raises(UnreadableInput, match="Is a directory"):
        open_input(tmp_path)
    with pytest.raises(UnreadableInput, match="unknown format 'xml'"):
        open_input(path, "xml")


def test_a_pipe_is_refused() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as file, pytest.raises(UnreadableInput, match="is a stream"):
        open_input(file)


def test_what_may_never_end_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "rows.jsonl"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/null")):
        with pytest.raises(UnreadableInput, match="is a pipe or a device"):
            open_input(path, "jsonl")


def test_the_file_stays_its_owners() -> None:
    for data, format in ((b'{"a": 1}\n', "jsonl"), (b"a\n1\n", "csv")):
        file = io.BytesIO(data)
        assert len(list(open_input(file, format))) == 1
        assert not file.closed


def test_rows_in_memory_are_held_to_the_same_rules() -> None:
    items = list(rows_input([{"a": float("nan")}, "text", {"a": object()}, {"a": "\ud800"}]))
    assert items[0] == InputRow(1, {"a": None})
    assert [type(item) for item in items[1:]] == [RejectedLine] * 3
