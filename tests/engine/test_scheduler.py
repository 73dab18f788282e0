from collections.abc import Iterator
from itertools import count, groupby
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from penstock.engine.block_pool import BlockPool
from penstock.engine.detokenizer import Detokenizer
from penstock.engine.forecast import OutputForecast, peak_num_tokens
from penstock.engine.outputs import Priority, Request
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.scheduler import Scheduler
from penstock.engine.sequence import Sequence, SequenceStatus
from penstock.engine.step import Step

from .tiny_tokenizers import byte_level

BLOCK_SIZE = 4
ANYTHING = 99
NEVER = 98  # would end a row, so that its length is uncertain


class Line:
    """A scheduler, and a model that says the same token for ever."""

    def __init__(self, num_blocks: int = 65, **options: Any) -> None:
        self.pool = BlockPool(num_blocks, BLOCK_SIZE)
        self.scheduler = Scheduler(
            self.pool, **{"max_num_seqs": 8, "max_num_batched_tokens": 64, **options}
        )
        self._arrivals: Iterator[int] = count()

    def add(
        self,
        prompt: int | tuple[int, ...],
        *,
        max_tokens: int | None = 8,
        priority: int = Priority.BULK,
        salt: str = "",
    ) -> Sequence:
        arrival = next(self._arrivals)
        if isinstance(prompt, int):  # so many tokens, like nobody else's
            prompt = tuple(range(1000 * arrival, 1000 * arrival + prompt))
        params = SamplingParams(temperature=0, max_tokens=max_tokens)
        sequence = Sequence(
            Request(str(arrival), prompt, params, priority=priority, cache_salt=salt),
            0,
            detokenizer=Detokenizer(byte_level()),
            arrival=arrival,
            context_window=self.pool.capacity * BLOCK_SIZE,
            eos_token_ids=frozenset({NEVER}),
        )
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> dict[Sequence, int]:
        plan = self.scheduler.schedule()
        step = Step.of(plan)
        self.scheduler.launch(plan)
        self.scheduler.end_step()
        self.scheduler.publish(step.parts)
        for sequence in plan:
            if sequence.num_pending:
                sequence.take_token(ANYTHING)
                if len(sequence.token_ids) >= sequence.max_num_tokens:
                    self.scheduler.finish(sequence)
        self.scheduler.check()
        return plan


def test_decodes_come_first_then_prefills_then_newcomers() -> None:
    line = Line(max_num_batched_tokens=20)
    decoding = line.add(4)
    line.step()
    prefilling, newcomer = line.add(30), line.add(10)
    assert line.step() == {decoding: 1, prefilling: 19}
    assert line.step() == {decoding: 1, prefilling: 11, newcomer: 8}
    assert line.step() == {decoding: 1, prefilling: 1, newcomer: 2}


def test_a_prompt_is_computed_in_chunks_of_what_the_budget_leaves() -> None:
    line = Line(max_num_batched_tokens=7)
    sequence = line.add(20)
    assert [line.step()[sequence] for _ in range(4)] == [7, 7, 6, 1]


def test_nobody_gets_more_slots_than_there_are() -> None:
    line = Line(max_num_seqs=3)
    rows = [line.add(4, max_tokens=2) for _ in range(5)]
    assert [*line.step()] == rows[:3]
    assert line.scheduler.num_waiting == 2
    line.step()
    assert [*line.step()] == rows[3:]


def test_urgent_ones_overtake_and_equals_keep_their_order() -> None:
    line = Line(max_num_seqs=1)
    bulk = [line.add(4, max_tokens=1) for _ in range(2)]
    urgent = [line.add(4, max_tokens=1, priority=Priority.INTERACTIVE) for _ in range(2)]
    order = [next(iter(line.step())) for _ in range(4)]
    assert order == [*urgent, *bulk]


def test_reserved_slots_are_kept_from_bulk() -> None:
    line = Line(max_num_seqs=4, reserved_interactive_seqs=1)
    for _ in range(5):
        line.add(4, max_tokens=50)
    line.step()
    assert line.scheduler.num_running == 3
    line.add(4, priority=Priority.INTERACTIVE)
    line.step()
    assert line.scheduler.num_running == 4
    assert line.scheduler.num_preemptions == 0


def test_chats_in_the_reserved_slots_cost_bulk_none_of_its_own() -> None:
    line = Line(max_num_seqs=4, reserved_interactive_seqs=2)
    chats = [line.add(4, max_tokens=50, priority=Priority.INTERACTIVE) for _ in range(2)]
    bulk = [line.add(4, max_tokens=50) for _ in range(3)]
    line.step()
    assert line.step() == dict.fromkeys([*chats, *bulk[:2]], 1)
    line.scheduler.remove(chats[0])
    line.step()
    assert line.scheduler.num_running == 3, "what is reserved stays free"


def test_an_urgent_one_that_waits_for_its_neighbour_pushes_nobody_out() -> None:
    line = Line(max_num_seqs=2)
    old, new = (line.add(4, max_tokens=20) for _ in range(2))
    line.step()
    prompt = tuple(range(900, 909))
    urgent = [line.add(prompt, max_tokens=1, priority=Priority.INTERACTIVE) for _ in range(2)]
    assert line.step() == {old: 1, urgent[0]: 9}
    assert new.status is SequenceStatus.WAITING
    assert line.scheduler.num_preemptions == 1


def test_an_urgent_one_takes_the_slot_of_the_newest_bulk_row() -> None:
    line = Line(max_num_seqs=2)
    old, new = line.add(4, max_tokens=20), line.add(4, max_tokens=20)
    line.step()
    urgent = line.add(4, max_tokens=3, priority=Priority.INTERACTIVE)
    plan = line.step()
    assert plan == {old: 1, urgent: 4}
    assert new.status is SequenceStatus.WAITING
    assert new.block_table == []
    assert len(new.token_ids) == 5, "what was generated is kept"
    while new.status is SequenceStatus.WAITING:
        line.step()
    assert new.num_computed >= 4
    assert urgent.status is SequenceStatus.FINISHED


def test_an_urgent_one_takes_the_blocks_of_bulk_rows() -> None:
    line = Line(num_blocks=9)
    bulk = [line.add(8, max_tokens=3) for _ in range(3)]
    line.step()
    urgent = line.add(24, max_tokens=2, priority=Priority.INTERACTIVE)
    assert urgent in line.step()
    assert {row.status for row in bulk} == {SequenceStatus.WAITING}
    while line.scheduler.num_running or line.scheduler.num_waiting:
        line.step()
    assert {row.status for row in [*bulk, urgent]} == {SequenceStatus.FINISHED}


def test_when_blocks_run_out_the_newest_starts_over_and_the_oldest_never_does() -> None:
    line = Line(num_blocks=9)
    rows = [line.add(4, max_tokens=24) for _ in range(3)]
    line.scheduler._admission._forecasts.observe("", 1)  # so that all are let in
    started: list[Sequence] = []
    while line.scheduler.num_running or line.scheduler.num_waiting:
        plan = line.step()
        started += [row for row in plan if plan[row] > 1]
    assert line.scheduler.num_preemptions > 0
    assert started.count(rows[0]) == 1
    assert {row.status for row in rows} == {SequenceStatus.FINISHED}
    assert {len(row.token_ids) for row in rows} == {28}


def test_after_a_preemption_nobody_is_let_in_until_somebody_ends() -> None:
    line = Line(num_blocks=9)
    rows = [line.add(8, max_tokens=16) for _ in range(3)]
    line.scheduler._admission._forecasts.observe("", 1)
    while not line.scheduler.num_preemptions:
        line.step()
    newcomer = line.add(1, max_tokens=1)
    while not any(row.status is SequenceStatus.FINISHED for row in rows):
        assert newcomer.status is SequenceStatus.WAITING
        line.step()
    while newcomer.status is not SequenceStatus.FINISHED:
        line.step()


def test_a_common_beginning_is_computed_once_even_by_simultaneous_rows() -> None:
    line = Line(max_num_batched_tokens=200)
    beginning = tuple(range(10))
    first = line.add((*beginning, 20))
    others = [line.add((*beginning, 20 + i), max_tokens=3) for i in range(3)]
    stranger = line.add(6)
    assert line.step() == {first: 11, stranger: 6}
    assert line.step() == {first: 1, stranger: 1, **dict.fromkeys(others, 3)}
    assert [row.num_cached for row in [first, *others]] == [0, 8, 8, 8]
    assert {row.block_table[0] for row in others} == {first.block_table[0]}
    assert len({row.block_table[2] for row in [first, *others]}) == 4


def test_an_urgent_one_waits_for_no_bulk_prompt_even_if_it_begins_alike() -> None:
    line = Line(max_num_batched_tokens=6)
    prompt = tuple(range(20))
    bulk = line.add(prompt)
    line.step()
    urgent = line.add(prompt, priority=Priority.INTERACTIVE)
    assert line.step() == {urgent: 6}
    assert urgent.num_cached == 4
    assert bulk.status is SequenceStatus.RUNNING


def test_the_last_token_is_computed_even_if_all_is_cached() -> None:
    line = Line()
    prompt = tuple(range(8))
    line.add(prompt, max_tokens=1)
    line.step()
    again = line.add(prompt, max_tokens=1)
    assert line.step() == {again: 4}
    assert again.num_cached == 4


def test_another_salt_shares_nothing() -> None:
    line = Line()
    prompt = tuple(range(12))
    line.add(prompt, max_tokens=1)
    line.step()
    other = line.add(prompt, max_tokens=1, salt="tenant")
    assert line.step() == {other: 12}


def test_without_prefix_caching_nothing_is_shared() -> None:
    line = Line(enable_prefix_caching=False)
    prompt = tuple(range(12))
    rows = [line.add(prompt, max_tokens=1) for _ in range(2)]
    assert line.step() == dict.fromkeys(rows, 12)
    again = line.add(prompt, max_tokens=1)
    assert line.step() == {again: 12}


def test_a_preempted_row_finds_its_blocks_again() -> None:
    line = Line(max_num_seqs=1)
    bulk = line.add(14, max_tokens=10)
    line.step()
    line.step()
    line.add(2, max_tokens=1, priority=Priority.INTERACTIVE)
    line.step()
    assert line.step() == {bulk: 4}, "16 tokens known, of which three blocks are cached"
    assert bulk.num_cached == 0, "what the prompt found the first time stays what is told"


def test_a_row_can_go_at_any_time() -> None:
    line = Line(max_num_seqs=1)
    running, waiting = line.add(5), line.add(5)
    line.step()
    for row in (waiting, running, running):
        line.scheduler.remove(row)
        line.scheduler.check()
    assert line.scheduler.num_running == line.scheduler.num_waiting == 0
    assert line.pool.num_available == line.pool.capacity
    assert line.step() == {}


def test_admission_leaves_room_for_the_outputs_to_come() -> None:
    careful, bold = Line(num_blocks=17), Line(num_blocks=17)
    bold.scheduler._admission._forecasts.observe("", 1)
    for line in (careful, bold):
        for _ in range(8):
            line.add(4, max_tokens=40)
        line.step()
    assert careful.scheduler.num_running < bold.scheduler.num_running


def test_a_few_small_rows_pass_one_that_does_not_fit_and_then_it_comes() -> None:
    line = Line(num_blocks=65, max_num_seqs=4)
    line.scheduler._admission._forecasts.observe("", 4)
    line.add(40, max_tokens=40)
    line.step()
    large = line.add(230, max_tokens=8)
    small = [line.add(4, max_tokens=4) for _ in range(200)]
    while large.status is SequenceStatus.WAITING:
        line.step()
    passed = [row for row in small if row.num_generated]
    assert passed == small[:16]
    while large.status is not SequenceStatus.FINISHED:
        line.step()


def test_turns_are_short_and_far_apart() -> None:
    line = Line(num_blocks=65)
    chat = line.add(20, max_tokens=230, priority=Priority.INTERACTIVE)
    line.step()
    large = line.add(200, max_tokens=40)
    was_served: list[bool] = []
    while chat.status is not SequenceStatus.FINISHED:
        was_served.append(chat in line.step())
    served, stalled, *_ = [len([*steps]) for _, steps in groupby(was_served)]
    assert served >= 100
    assert stalled <= 16 + 4, "so many tokens after a prompt in four steps"
    assert large.num_generated >= 16


def until_all_end(line: Line, rows: list[Sequence], *, chat_every: int, max_steps: int) -> None:
    """Step while a chat comes so often that one is always running, and small rows keep coming."""
    for step in range(max_steps):
        if all(row.status is SequenceStatus.FINISHED for row in rows):
            return
        if step % chat_every == 0:
            line.add(6, max_tokens=30, priority=Priority.INTERACTIVE)
        if step % 10 == 0:
            line.add(20)
        line.step()
    ended = [row.status is SequenceStatus.FINISHED for row in rows]
    raise AssertionError(f"after {max_steps} steps {sum(ended)} of {len(rows)} rows have ended")


@pytest.mark.parametrize("enable_prefix_caching", [True, False])
def test_a_trickle_of_chats_keeps_no_large_row_out(enable_prefix_caching: bool) -> None:
    line = Line(num_blocks=257, enable_prefix_caching=enable_prefix_caching)
    rows = [line.add(1000, max_tokens=20), *(line.add(20) for _ in range(50))]
    until_all_end(line, rows, chat_every=25, max_steps=1500)


@pytest.mark.parametrize("enable_prefix_caching", [True, False])
def test_rows_without_a_limit_end_beside_a_trickle_of_chats(enable_prefix_caching: bool) -> None:
    line = Line(num_blocks=65, enable_prefix_caching=enable_prefix_caching)
    rows = [line.add(20, max_tokens=None) for _ in range(3)]
    until_all_end(line, rows, chat_every=15, max_steps=6000)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=6))
def test_the_peak_is_the_most_that_is_held_at_any_one_time(rows: list[tuple[int, int]]) -> None:
    lengths, remaining = [length for length, _ in rows], [left for _, left in rows]
    held = [
        sum(n + t for n, left in rows if left >= t) for t in range(max(remaining, default=0) + 1)
    ]
    assert peak_num_tokens(lengths, remaining) == max(held)


def test_the_forecast_learns_from_finished_rows() -> None:
    forecast = OutputForecast()
    assert forecast.remaining(0, 100) == 50
    assert forecast.remaining(60, 40) == 30
    for _ in range(100):
        forecast.observe(10)
    assert forecast.remaining(0, 100) == 10
    assert forecast.remaining(4, 100) == 6
    assert forecast.remaining(40, 60) == 20
    assert forecast.remaining(40, 5) == 5
    for _ in range(300):
        forecast.observe(80)
    assert 75 <= forecast.remaining(0, 100) <= 100


@pytest.mark.parametrize("options", [{"max_num_seqs": 0}, {"max_num_batched_tokens": 0}])
def test_limits_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Line(**options)
