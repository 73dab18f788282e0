"""Rows that begin with the same blocks are found, as groups within groups, and nobody else."""

import random
from itertools import pairwise

import numpy as np
import pytest

from penstock.engine.batch import ScheduledRow
from penstock.engine.prefix_forest import PrefixForest, pays

SEGMENT = 16  # blocks of 16 tokens
Group = tuple[int, int, list[int]]


def forest(max_rows: int = 64, block_size: int = 16, token_bytes: int = 1 << 30) -> PrefixForest:
    return PrefixForest(block_size=block_size, token_bytes=token_bytes, max_rows=max_rows)


def row(segments: str, *, own: int = 1, count: int = 1) -> ScheduledRow:
    """A row of one segment for each letter, which stands for its blocks, and some own tokens."""
    blocks = [SEGMENT * ord(letter) + i for letter in segments for i in range(SEGMENT)]
    return ScheduledRow([0] * count, 256 * len(segments) + own - 1, [*blocks, 1, 2])


def groups_of(found: np.ndarray | None, target: PrefixForest) -> list[Group]:
    if found is None:
        return []
    parts = {name: found[part].tolist() for name, part in target.room.parts().items()}
    bounds = zip(parts["first_tokens"], parts["end_tokens"], strict=True)
    return [
        (first, end, parts["members"][begin:stop])
        for (begin, stop), (first, end) in zip(pairwise(parts["group_start"]), bounds, strict=True)
        if begin < stop
    ]


def lengths_of(found: np.ndarray | None, target: PrefixForest, num_rows: int) -> list[int]:
    assert found is not None
    return found[target.room.parts()["prefix_lens"]][:num_rows].tolist()


def test_rows_are_a_forest() -> None:
    target = forest()
    rows = [row("ab"), row("xyz"), row("abc"), row("q"), row("xyz"), row("ab"), row("xw")]
    found = target.find(rows)
    assert groups_of(found, target) == [
        (0, 512, [0, 2, 5]),
        (0, 256, [1, 4, 6]),
        (256, 768, [1, 4]),
    ]
    assert lengths_of(found, target, 7) == [512, 768, 512, 0, 768, 512, 256]


def test_the_last_token_is_in_no_prefix() -> None:
    """A row reads at least its newest key by itself, or nothing would merge."""
    target = forest()
    found = target.find([row("ab", own=0), row("ab", own=0), row("ab", own=0)])
    assert lengths_of(found, target, 3) == [256] * 3


def test_rows_of_several_tokens_are_in_no_group() -> None:
    target = forest()
    found = target.find([row("ab"), row("ab", count=5), row("ab")])
    assert groups_of(found, target) == [(0, 512, [0, 2])]
    assert target.find([row("ab"), row("ab", count=5)]) is None


def test_equal_blocks_behind_others_are_not_shared() -> None:
    assert forest().find([row("ab"), row("cb")]) is None


def test_while_rows_stay_so_does_what_was_found() -> None:
    target = forest()
    rows = [row("ab"), row("ab"), row("q")]
    found = target.find(rows)
    later = [one._replace(position=one.position + 300) for one in rows]
    assert target.find(later) is found
    assert groups_of(target.find([*later[:2], row("ab")]), target) == [(0, 512, [0, 1, 2])]
    assert target.find(later[:1]) is None


def test_a_table_that_grows_keeps_its_path() -> None:
    target, rows = forest(), [row("ab"), row("ab")]
    assert groups_of(target.find(rows), target) == [(0, 512, [0, 1])]
    for one in rows:
        one.block_table.append(7)  # pyright: ignore[reportAttributeAccessIssue] (it is a list)
    assert groups_of(target.find([*rows, row("q")]), target) == [(0, 512, [0, 1])]


def test_many_rows_come_and_go() -> None:
    """It forgets in time, and never takes an old row's table for a new one's."""
    target = forest(max_rows=32)
    chance = random.Random(0)
    for _ in range(300):
        texts = ["".join(chance.choices("ab", k=chance.randint(1, 3))) for _ in range(8)]
        rows = [row(text) for text in texts]
        found = target.find(rows)
        if found is None:
            assert len({text[0] for text in texts}) == len(texts)
            continue
        expected = [
            max((len(common(text, other)) for i, other in enumerate(texts) if i != index))
            for index, text in enumerate(texts)
        ]
        assert lengths_of(found, target, 8) == [256 * length for length in expected]
        for first, end, members in groups_of(found, target):
            assert len({texts[member][first // 256 : end // 256] for member in members}) == 1


def common(text: str, other: str) -> str:
    length = next(
        (i for i, pair in enumerate(zip(text, other, strict=False)) if len({*pair}) > 1), None
    )
    return text[: min(len(text), len(other)) if length is None else length]


def test_parents_come_first_where_there_is_no_room_for_all() -> None:
    target = forest(max_rows=6)  # room for three groups, and twelve members
    rows = [row("abc"), row("abc"), row("abd"), row("abd"), row("xy"), row("xy")]
    found = target.find(rows)
    assert groups_of(found, target) == [
        (0, 512, [0, 1, 2, 3]),
        (0, 512, [4, 5]),
        (512, 768, [0, 1]),
    ]
    assert lengths_of(found, target, 6) == [768, 768, 512, 512, 512, 512]


def test_members_beyond_the_room_are_left_out() -> None:
    target = forest(max_rows=4)  # room for eight members
    rows = [row("ab"), row("abc"), row("abcd"), row("abcd")]
    assert groups_of(target.find(rows), target) == [(0, 512, [0, 1, 2, 3]), (512, 768, [1, 2, 3])]


@pytest.mark.parametrize("block_size", [24, 512])
def test_blocks_that_are_cut_share_nothing(block_size: int) -> None:
    assert forest(block_size=block_size).find([row("ab"), row("ab")]) is None


def test_more_rows_than_there_is_room_for_go_without() -> None:
    assert forest(max_rows=2).find([row("ab"), row("ab"), row("ab")]) is None


def test_it_must_pay() -> None:
    """Four rows of 512 common tokens read 1,536 less; Llama-3.1-8B has 4 KiB a token and layer."""
    assert not pays(1536, 4096)
    assert pays(15 * 512, 4096)
    rows = [row("ab")] * 4
    assert forest(token_bytes=4096).find(rows) is None
    assert forest(token_bytes=4096).find([row("ab") for _ in range(16)]) is not None
