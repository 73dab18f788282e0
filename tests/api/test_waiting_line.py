"""The line of chats that wait: who is let in, and when the others are told to come again."""

import pytest

from penstock.api.errors import Overloaded
from penstock.api.waiting_line import LONGEST_WAIT_S, WaitingLine


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def refused_until(line: WaitingLine) -> int:
    with pytest.raises(Overloaded) as refusal:
        line.enter()
    assert refusal.value.status == 429
    assert refusal.value.retry_after_s is not None
    assert refusal.value.headers() == {"retry-after": str(refusal.value.retry_after_s)}
    return refusal.value.retry_after_s


def test_a_place_is_taken_and_given_back_once() -> None:
    line = WaitingLine(2)
    first, second = line.enter(), line.enter()
    refused_until(line)
    assert len(line) == 2, "who was refused is not counted"
    first.serve()
    first.leave()
    first.serve()
    assert len(line) == 1
    second.leave()
    assert len(line) == 0


def test_each_refused_one_is_promised_a_place_of_its_own() -> None:
    clock = Clock()
    line = WaitingLine(4, clock)
    for _ in range(20):  # two a second
        clock.now_s += 0.5
        line.enter().serve()
    for _ in range(4):
        line.enter()
    assert [refused_until(line) for _ in range(6)] == [1, 2, 2, 3, 3, 4]
    clock.now_s += 4  # the promised time has come; nothing of it is owed any more
    assert refused_until(line) == 1


def test_a_line_that_stands_still_is_left_alone_for_as_long_as_can_be_told() -> None:
    clock = Clock()
    line = WaitingLine(1, clock)
    line.enter().serve()
    clock.now_s += 3_600
    line.enter()
    times_s = [refused_until(line) for _ in range(20)]
    assert times_s == sorted(times_s)
    assert times_s[0] == 11
    assert set(times_s[6:]) == {LONGEST_WAIT_S}
