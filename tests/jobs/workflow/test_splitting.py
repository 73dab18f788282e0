"""Pieces of texts: nothing is lost between them, and none is larger than it may be."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from penstock.jobs.workflow.computing.splitting import pieces
from penstock.jobs.workflow.spec import Split


def cut(text: str, **fields: Any) -> list[str]:
    return list(pieces(text, msgspec.convert({"field": "row.t", **fields}, Split)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"by": "characters", "size": 4},
            ["one ", "two\n", "thre", "e\n\n ", "\nfou", "r, f", "ive"],
        ),
        ({"by": "words", "size": 2}, ["one two", "three\n\n \nfour,", "five"]),
        ({"by": "words", "size": 3, "overlap": 2}, ["one two\nthree", "two\nthree\n\n \nfour,"]),
        ({"by": "lines"}, ["one two", "three", "four, five"]),
        ({"by": "lines", "size": 2}, ["one two\nthree", "four, five"]),
        ({"by": "paragraphs"}, ["one two\nthree", "four, five"]),
        ({"by": "separator", "separator": ", "}, ["one two\nthree\n\n \nfour", "five"]),
        ({"by": "separator", "separator": "nothing"}, ["one two\nthree\n\n \nfour, five"]),
    ],
)
def test_units(fields: dict[str, Any], expected: list[str]) -> None:
    assert cut("one two\nthree\n\n \nfour, five", **fields)[: len(expected)] == expected


def test_by_default_a_piece_has_many_characters_and_one_line() -> None:
    assert [len(piece) for piece in cut("x" * 2_500)] == [1_000, 1_000, 500]
    assert cut("a\nb", by="lines") == ["a", "b"]


@pytest.mark.parametrize("by", ["characters", "words", "lines", "paragraphs", "separator"])
def test_an_empty_text_has_no_pieces(by: str) -> None:
    assert cut("", by=by) == []


def test_separators_at_the_ends_make_no_pieces() -> None:
    assert cut("||a||b||", by="separator", separator="||") == ["a", "b"]


def test_the_last_piece_is_not_a_part_of_the_one_before() -> None:
    assert cut("abcdef", size=4, overlap=2) == ["abcd", "cdef"]


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=60), st.integers(1, 9), st.integers(0, 8))
def test_characters_put_together_again(text: str, size: int, overlap: int) -> None:
    overlap = min(overlap, size - 1)
    found = cut(text, size=size, overlap=overlap)
    assert all(0 < len(piece) <= size for piece in found)
    assert "".join(piece[overlap if index else 0 :] for index, piece in enumerate(found)) == text


@settings(deadline=None, derandomize=True)
@given(st.text("ab\n \t", max_size=40), st.sampled_from(["words", "lines", "paragraphs"]))
def test_no_word_is_lost(text: str, by: str) -> None:
    assert " ".join(cut(text, by=by, size=1)).split() == text.split()


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=30), st.integers(1, 5), st.data())
def test_tokens_are_counted_and_characters_stay_whole(text: str, size: int, data: Any) -> None:
    """Several tokens may end at one character, and the last may end before the text does."""
    ends = sorted(data.draw(st.lists(st.integers(1, max(1, len(text))), max_size=20)))
    spec = Split(field="row.t", by="tokens", size=size)
    found = list(pieces(text, spec, lambda _: ends))
    assert "".join(found) == text
    assert len(found) <= max(1, -(-len(ends) // size))
