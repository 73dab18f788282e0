"""Captured steps are kept by kind, stand in for each other, and never become too many."""

import random
from dataclasses import replace

import pytest

from penstock.engine.captured import Captured, StepKind, max_graphs
from penstock.engine.device_sampler import Needs
from penstock.engine.graphs import RecordedWork, captured_rows, captured_width

PLAIN = StepKind(num_rows=16, width=64, needs=Needs.NOTHING, has_groups=False)


def test_a_kind_that_comes_up_seldom_shares_a_replay() -> None:
    replay = RecordedWork()(tuple)
    captured = Captured(10)
    eight = replace(PLAIN, num_rows=8)
    assert captured.find(PLAIN) is None
    assert captured.is_due(PLAIN)
    assert not captured.has_seen(eight)
    captured.keep(PLAIN, replay)
    assert captured.has_seen(eight)
    assert captured.find(PLAIN) == (PLAIN, replay)
    shared = [captured.find(eight) for _ in range(40)]
    assert shared == [(PLAIN, replay)] * 32 + [None] * 8, "until it has one"
    assert captured.find(eight, is_last_word=True) == (PLAIN, replay)
    captured.keep(eight, replay)
    assert captured.find(eight) == (eight, replay)


@pytest.mark.parametrize(
    ("changes", "covers"),
    [
        ({"num_rows": 32}, True),
        ({"num_rows": 40}, False),
        ({"num_rows": 8}, False),
        ({"width": 256}, True),
        ({"width": 512}, False),
        ({"width": 32}, False),
        ({"needs": Needs.FILTERS | Needs.RULES}, True),
        ({"needs": Needs.NOTHING}, False),
        ({"has_groups": True}, False),
    ],
    ids=str,
)
def test_more_room_will_do_and_less_will_not(changes: dict[str, int], covers: bool) -> None:
    asked = replace(PLAIN, needs=Needs.FILTERS)
    captured = Captured(10)
    captured.keep(replace(asked, **changes), RecordedWork()(tuple))
    assert (captured.find(asked) is not None) == covers


def test_the_cheapest_of_those_that_cover_a_step_is_taken() -> None:
    captured, replay = Captured(10), RecordedWork()(tuple)
    for kind in (
        replace(PLAIN, needs=Needs.LOGPROBS | Needs.FILTERS),
        replace(PLAIN, num_rows=32, width=128),
        replace(PLAIN, num_rows=24, width=256),
    ):
        captured.keep(kind, replay)
    assert captured.find(PLAIN) == (replace(PLAIN, num_rows=24, width=256), replay)


def test_beyond_so_many_the_one_that_was_used_longest_ago_goes() -> None:
    captured, replay = Captured(2), RecordedWork()(tuple)
    wide, wider = replace(PLAIN, width=512), replace(PLAIN, width=4096)
    captured.keep(PLAIN, replay)
    captured.keep(wide, replay)
    assert captured.find(PLAIN)
    asked = [captured.find(wider) is None and captured.is_due(wider) for _ in range(129)]
    assert asked == [False] * 128 + [True], "another must go, so it waits"
    captured.keep(wider, replay)
    assert len(captured) == 2
    assert captured.find(wide) is None
    assert captured.find(PLAIN)
    assert captured.find(wider)


def test_what_came_up_long_ago_is_forgotten() -> None:
    captured, replay = Captured(9), RecordedWork()(tuple)
    captured.keep(PLAIN, replay)
    seldom = replace(PLAIN, num_rows=8)
    for step in range(40 * 200):
        assert captured.find(seldom if step % 200 == 0 else PLAIN), "never due a capture"


def test_a_load_that_wanders_never_has_more_graphs_than_were_planned() -> None:
    source, captured = random.Random(0), Captured(max_graphs(256))
    needs = [*map(Needs, range(16))]
    rows, replay, num_captures = 1, RecordedWork()(tuple), 0
    kind = PLAIN
    for step in range(40_000):
        rows = max(1, min(256, rows + source.choice([-3, -2, -1, 0, 1, 2, 3])))
        if step % 50 == 0:
            width = captured_width(source.choice([20, 100, 200, 500, 900, 1800]), 2560)
            groups = source.random() < 0.5
            kind = StepKind(1, width=width, needs=source.choice(needs), has_groups=groups)
        kind = replace(kind, num_rows=captured_rows(rows) or 1)
        if captured.find(kind) is None and captured.is_due(kind):
            captured.keep(kind, replay)
            num_captures += 1
        assert len(captured) <= 105
    assert len(captured) == 105
    assert num_captures < 400
