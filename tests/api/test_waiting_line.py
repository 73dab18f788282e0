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


def test_a_line_that_stands_still_is_hoped_to_move_again() -> None:
    clock = Clock()
    line = WaitingLine(20, clock)
    for _ in range(20):
        line.enter().serve()
    clock.now_s += 3_600
    for _ in range(20):
        line.enter()
    times_s = [refused_until(line) for _ in range(200)]
    assert times_s[:5] == [1, 2, 2, 3, 3]  # all of the line in ten seconds
    assert max(times_s) == LONGEST_WAIT_S
    late_s = times_s[2 * LONGEST_WAIT_S :]  # they come again spread out, not all in one second
    assert len(set(late_s)) > 10
    assert min(late_s) > LONGEST_WAIT_S / 2 - 1
