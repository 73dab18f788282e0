"""One array of objects as an input: cut as it is read, wherever a piece of the file ends."""

import io
import json

import pytest
from hypothesis import given, settings, strategies as st

from penstock.jobs import json_elements
from penstock.jobs.input_row import MAX_LINE_BYTES, InputRow, UnreadableInput
from penstock.jobs.inputs import open_input
from penstock.jobs.json_elements import BrokenArray, elements
from penstock.jobs.model import RejectedLine

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('"\\[]{},: é\nx', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"]'), inner, max_size=3),
    max_leaves=8,
)


def texts(data: bytes, max_bytes: int = 1 << 20) -> list[bytes | None]:
    return [element.text for element in elements(io.BytesIO(data), max_bytes)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.dictionaries(st.text('ab"'), VALUES, max_size=3), max_size=4),
    indent=st.sampled_from([None, 2]),
    is_ascii=st.booleans(),
    piece=st.integers(1, 40),
)
def test_an_array_is_cut_where_a_reader_of_json_would(
    rows: list[dict[str, object]], indent: int | None, is_ascii: bool, piece: int
) -> None:
    data = json.dumps(rows, indent=indent, ensure_ascii=is_ascii).encode() + b" \n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_elements, "_PIECE_BYTES", piece)
        assert [json.loads(text or b"") for text in texts(data)] == rows


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", None])
def test_an_array_of_objects_is_an_input(name: str | None) -> None:
    data = b'\xef\xbb\xbf [\n  {"a": "]"},\n\n  7,\n  {"a": 1,},\n  {"a": 3}\n]\n'
    first, number, bad, last = open_input(io.BytesIO(data), filename=name)
    assert (first, last) == (InputRow(1, {"a": "]"}), InputRow(4, {"a": 3}))
    assert isinstance(number, RejectedLine)
    assert number.line == 2
    assert number.message.endswith(
        "got int (elements count as lines; this one begins in line 4 of the file)"
    )
    assert isinstance(bad, RejectedLine)
    assert bad.message.endswith("begins in line 5 of the file)")


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
@pytest.mark.parametrize("long_text", [r"\"]x}", r"x\\", "\n" * 9, '{"'], ids=repr)
def test_an_element_that_is_too_long_spoils_no_other(
    piece: int, long_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_elements, "_PIECE_BYTES", piece)
    longest = b'{"b": "' + b"x" * 31 + b'"}'
    assert len(longest) == 40
    too_long = [
        json.dumps({"a": [long_text * times, {}]}, indent=1).encode() for times in (9, 99, 999)
    ]
    inner = [longest, longest.replace(b"x", b"xx", 1), *too_long, longest]
    data = b"[" + b",".join(b"\n" * 50 + each for each in inner) + b"\n]\n"
    found = list(elements(io.BytesIO(data), 40))
    assert [each.text for each in found] == [longest, None, None, None, None, longest]
    lines = [data[: data.index(each)].count(b"\n") + 1 for each in inner[:-1]]
    assert [each.line for each in found[:-1]] == lines
    assert found[-1].line == data[: data.rindex(longest)].count(b"\n") + 1


def test_an_element_is_held_to_what_a_line_is() -> None:
    longest = b'{"a": "' + b"x" * (MAX_LINE_BYTES - 9) + b'"}'
    data = b"[%b,%b,{}]" % (longest, longest.replace(b"x", b"xx", 1))
    first, bad, last = open_input(io.BytesIO(data), "jsonl")
    assert isinstance(first, InputRow)
    assert isinstance(bad, RejectedLine)
    assert bad.message.startswith("is longer than 16 MiB (")
    assert last == InputRow(3, {})


def test_a_comma_behind_the_last_element_is_borne() -> None:
    assert texts(b'[{"a": 1},\n]') == [b'{"a": 1}']
    assert texts(b'[{"a": 1},,{}]') == [b'{"a": 1}', b"", b"{}"], "between two it is not"


def test_no_more_of_an_array_is_held_than_an_element_needs() -> None:
    class Endless(io.RawIOBase):
        num_read = 0

        def read(self, size: int = -1, /) -> bytes:
            self.num_read += size
            return (b"[" if self.num_read == size else b"") + b'{"a": 1},' * (size // 9)

    file = Endless()
    cut = elements(file, 1 << 20)  # pyright: ignore[reportArgumentType] - has what is asked of it
    assert [next(cut).text for _ in range(5)] == [b'{"a": 1}'] * 5
    assert file.num_read <= 1 << 20


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'[\n{"a": 1},\n{"a": ', "breaks off in line 3"),
        (b'[{"a": "x', "breaks off in line 1"),
        (b'[{"a": 1}]\n{"a": 2}\n', "stands behind its array, in line 2"),
        (b'[{"a": 1}}\n', "a brace in line 1 closes what was not opened"),
        (b'[{"a": "\n' + b"x" * (3 << 20) + b'"}', "breaks off in line 2"),
    ],
)
def test_what_is_no_whole_array_is_refused_with_its_line(data: bytes, says: str) -> None:
    with pytest.raises(BrokenArray, match=says):
        texts(data)


def test_a_broken_array_is_an_unreadable_input() -> None:
    rows = open_input(io.BytesIO(b'[{"a": 1},'), filename="rows.json")
    assert next(rows) == InputRow(1, {"a": 1})
    with pytest.raises(UnreadableInput, match=r"cannot read rows\.json: its array does not end"):
        next(rows)


def test_tabs_separate_columns_of_tsv() -> None:
    data = b'id\ttext\n1\t"a, b"\n2\n'
    for name, told in (("rows.tsv", None), ("rows.tab", None), (None, "tsv")):
        good, bad = open_input(io.BytesIO(data), told, filename=name)
        assert good == InputRow(2, {"id": "1", "text": "a, b"})
        assert isinstance(bad, RejectedLine)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"id": 1, "text": "a"}\n', "is JSON: leave the format out, or say jsonl"),
        (b'[{"id": 1}]\n', "is JSON: leave the format out, or say jsonl"),
        (b"id\ttext\n1\ta\n", "holds tabs and no comma: name it .tsv, or say tsv"),
    ],
)
def test_what_is_no_csv_says_what_it_is(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableInput, match=says):
        open_input(io.BytesIO(data), "csv")
