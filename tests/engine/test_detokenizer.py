import random
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from penstock.engine.detokenizer import Detokenizer
from penstock.engine.outputs import RequestError
from penstock.engine.tokenizer import Tokenizer

from .tiny_tokenizers import byte_fallback, byte_level

TOKENIZERS = {"byte level": byte_level, "byte fallback": byte_fallback}
TEXTS = [
    "the other theatre",
    "añb über",
    "你好世界。",
    "🌊👩‍👩‍👧‍👦 family 🇸🇪!",
    "ก็ภาษาไทย",
    " leading and trailing ",
    "ab ab c. a",
    "",
]


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer.encode(text)
    assert not isinstance(ids, RequestError)
    return list(ids)


def pieces_of(tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    detokenizer = Detokenizer(tokenizer, stop)
    pieces = []
    for token_id in ids:
        pieces.append(detokenizer.push([token_id]))
        if detokenizer.matched_stop is not None:
            return pieces
    return [*pieces, detokenizer.flush()]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_make_the_whole_and_no_character_is_cut(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    ids = ids_of(tokenizer, text)
    pieces = pieces_of(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_many_tokens_at_once_give_the_same_text(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    ids = ids_of(tokenizer, " ".join(TEXTS))
    for seed in range(5):
        cuts = sorted(random.Random(seed).sample(range(len(ids)), 4))
        detokenizer = Detokenizer(tokenizer)
        parts = [ids[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
        assert "".join(map(detokenizer.push, parts)) + detokenizer.flush() == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_special_and_unknown_tokens_are_silent(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    ids = ids_of(tokenizer, "ab 你 c")
    mixed = [1, *(token for i in ids for token in (i, 2, 10_000)), 2]
    assert "".join(pieces_of(tokenizer, mixed)) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_text_that_ends_in_half_a_character_shows_it_at_the_end(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    ids = ids_of(tokenizer, "ab 你")[:-1]
    pieces = pieces_of(tokenizer, ids)
    assert "\ufffd" not in "".join(pieces[:-1])
    assert "".join(pieces) == tokenizer.decode(ids)
    assert "\ufffd" in pieces[-1]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_endless_garbage_does_not_pile_up(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    half = ids_of(tokenizer, "你")[-2]
    pieces = pieces_of(tokenizer, [half] * 100)
    assert len("".join(pieces[:40])) > 10, "held back for ever"
    assert {*"".join(pieces)} == {"\ufffd"}


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 262), max_size=40))
def test_any_byte_level_tokens_make_the_whole(ids: list[int]) -> None:
    tokenizer = byte_level()
    assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(
    ("text", "stop", "left", "matched"),
    [
        ("ab STOP c", ("STOP",), "ab ", "STOP"),
        ("ab 你好 c", ("好",), "ab 你", "好"),
        ("ab 🌊 c", ("🌊 c", "x"), "ab ", "🌊 c"),
        ("aaab", ("aab",), "a", "aab"),
        ("abcabd", ("abd",), "abc", "abd"),
        ("abcde", ("cd", "bcde"), "ab", "cd"),
        ("abcd", ("cd", "bcd"), "a", "bcd"),
        ("ab ST", ("STOP",), "ab ST", None),
        ("STOP", ("STOP",), "", "STOP"),
        ("ab", ("c",), "ab", None),
    ],
)
def test_text_is_cut_before_the_stop_string_that_is_complete_first(
    kind: str, text: str, stop: tuple[str, ...], left: str, matched: str | None
) -> None:
    tokenizer = TOKENIZERS[kind]()
    ids = ids_of(tokenizer, text)
    for cut in range(len(ids) + 1):  # at every place where tokens can come apart
        detokenizer = Detokenizer(tokenizer, stop)
        out = detokenizer.push(ids[:cut])
        if detokenizer.matched_stop is None:
            out += detokenizer.push(ids[cut:])
        if detokenizer.matched_stop is None:
            out += detokenizer.flush()
        assert (out, detokenizer.matched_stop) == (left, matched)
    assert "".join(pieces_of(tokenizer, ids, stop)) == left


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    tokenizer = byte_level()
    pieces = pieces_of(tokenizer, ids_of(tokenizer, "xxSxSTx"), stop=("STOP",))
    assert pieces == ["x", "x", "", "Sx", "", "", "STx", ""]


def test_a_stop_string_before_its_time_is_text() -> None:
    tokenizer = byte_level()
    detokenizer = Detokenizer(tokenizer, ("b",))
    assert detokenizer.push(ids_of(tokenizer, "ab"), may_stop=False) == "ab"
    assert detokenizer.push(ids_of(tokenizer, "ab")) == "a"
    assert detokenizer.matched_stop == "b"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    text=st.text("ab水 ", max_size=12),
    stops=st.lists(st.text("ab水 ", min_size=1, max_size=4), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_overlapping_stop_strings_are_found_wherever_tokens_are_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in stops if stop in text]
    left, matched = (text[: min(ends)[1]], min(ends)[2]) if ends else (text, None)
    ids = ids_of(byte_level(), text)
    places = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    detokenizer = Detokenizer(byte_level(), stops)
    out = ""
    for begin, end in pairwise(places):
        if detokenizer.matched_stop is None:
            out += detokenizer.push(ids[begin:end])
    out += detokenizer.flush()
    assert (out, detokenizer.matched_stop) == (left, matched)
