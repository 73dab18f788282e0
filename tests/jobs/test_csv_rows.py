"""Quotes that swallow rows, and headers that look like those of another format."""

import io

import pytest

from penstock.jobs.csv_rows import read_csv
from penstock.jobs.input_row import InputRow, UnreadableInput
from penstock.jobs.model import RejectedLine


def read(data: bytes, delimiter: str = ",") -> list[InputRow | RejectedLine]:
    return list(read_csv(io.BytesIO(data), "rows.csv", delimiter))


@pytest.mark.parametrize(
    ("rest", "last_line"),
    [
        (b'3,c\n4,"d"\n5,e\n', 5),
        (b"3,c\n4,d\n5,e\n", 6),
        ((b"3," + b"c" * (1 << 20) + b"\n") * 20, 3 + 16),
    ],
    ids=["the next quote", "the end", "more than can be held"],
)
def test_a_quote_that_swallows_other_rows_spoils_them_not_in_silence(
    rest: bytes, last_line: int
) -> None:
    for delimiter in (",", "\t"):
        data = (b'id,text\n1,a\n2,"Hello\n' + rest).replace(b",", delimiter.encode())
        with pytest.raises(UnreadableInput) as raised:
            read(data, delimiter)
        assert str(raised.value).startswith(
            "cannot read rows.csv: the row that begins in line 3 has a quote that ends no text as "
            f"it must, up to line {last_line}: "
        )


def test_a_quote_that_spoils_its_own_line_spoils_no_other() -> None:
    first, bad, last = read(b'id,text\n1,a\n2,"Hello" he said\n3,"b\nc"\n')
    assert (first, last) == (
        InputRow(2, {"id": "1", "text": "a"}),
        InputRow(4, {"id": "3", "text": "b\nc"}),
    )
    assert isinstance(bad, RejectedLine)
    assert bad.line == 3


def test_a_row_of_several_lines_with_too_many_fields_tells_how_far_it_goes() -> None:
    bad, last = read(b'id,text\n2,"Hello\n3,b\n4,12",c\n5,e\n')
    assert last == InputRow(5, {"id": "5", "text": "e"})
    assert isinstance(bad, RejectedLine)
    assert bad.line == 2
    assert bad.message.endswith("(a text in quotes goes on to line 4)")


def test_one_column_may_be_called_with_semicolons_or_tabs() -> None:
    for separator in (";", "\t"):
        other = f"a{separator}b".encode()
        with pytest.raises(UnreadableInput, match=r"and no comma: .*quotes around it"):
            read(other + b"\n1" + separator.encode() + b"2\n")
        assert read(other + b"\n1\n") == [InputRow(2, {other.decode(): "1"})]
        assert read(b'"' + other + b'"\n' + other) == [
            InputRow(2, {other.decode(): other.decode()})
        ]


def test_a_complaint_about_a_header_is_not_as_long_as_the_header() -> None:
    with pytest.raises(UnreadableInput, match="must name every column, once") as raised:
        read(b"x" * 1_000_000 + b",a,a\n")
    assert len(str(raised.value)) < 500
