"""A table of digests counts like a set as long as it may, and about so in bounded memory."""

import random

import pytest

from penstock.jobs.digest_table import DigestTable, digest_of


def test_it_is_a_map_to_the_first_as_long_as_there_is_room() -> None:
    table, first = DigestTable(), dict[int, int]()
    dice = random.Random(1)
    for number in range(20_000):
        digest = digest_of(str(dice.randrange(5_000)).encode())
        assert table.add(digest, number) == first.get(digest)
        first.setdefault(digest, number)
        assert table.num_distinct == len(first)
    assert table.is_exact


def test_a_digest_of_zero_is_one_like_others() -> None:
    table = DigestTable()
    assert table.add(0, 7) is None
    assert table.add(0, 8) == 7
    assert table.num_distinct == 1


@pytest.mark.parametrize("num_distinct", [20_000, 300_000])
def test_what_is_full_goes_on_with_a_fair_sample(num_distinct: int) -> None:
    table = DigestTable(max_slots=1 << 14)
    for number in range(num_distinct):
        table.add(digest_of(number.to_bytes(4, "big")), number)
    for number in range(0, num_distinct, 2):  # again: nothing new
        earlier = table.add(digest_of(number.to_bytes(4, "big")), number + 1)
        assert earlier in (None, number)
    assert not table.is_exact
    assert len(table._digests) == len(table._numbers) == 1 << 14
    assert table.num_distinct == pytest.approx(num_distinct, rel=0.06)  # four standard errors
