"""Steps in flight, and steps repeated in one turn: the same tokens, and books that balance.

What may go wrong there makes no noise: a row computed after its end, a block handed on while a step
still writes to it, a token that arrives after its row was sent back to wait.
"""

from typing import Any

import pytest
import torch

from penstock.engine.batch import ScheduledRow, StepBatch, build_step_batch, next_step_batch
from penstock.engine.block_pool import BlockPool
from penstock.engine.outputs import FinishReason, Priority, Request
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.sequence import SequenceStatus

from .fake_runner import FakeRunner, greedy_tokens
from .lives import ALL_MODES, MODES, engine, live, request, run


@pytest.mark.parametrize("mode", ALL_MODES)
def test_whatever_happens_every_row_has_one_end_and_its_own_tokens(mode: str) -> None:
    live(range(50), mode)


@pytest.mark.soak
@pytest.mark.parametrize("mode", ALL_MODES)
def test_two_thousand_lives(mode: str) -> None:
    live(range(50, 550), mode)


def test_a_step_is_launched_before_the_one_before_it_is_read() -> None:
    target = engine("a step ahead")
    target.add(request("a", (20, 21), 6, ignore_eos=True, stream_interval=1))
    assert target.step() == [], "only launched"
    told = [len(output.token_ids) for _ in range(6) for output in target.step()]
    assert told == [1] * 6
    assert not target.has_work, "the last token was known to be the last"


def test_a_row_that_ends_unexpectedly_is_computed_no_further() -> None:
    for first in range(20, 250):
        output = greedy_tokens((first, 50), 20)
        if 2 < len(output) < 20:
            break
    else:
        raise AssertionError("no such prompt")
    for mode in MODES:
        target = engine(mode)
        assert run(target, [request("a", (first, 50), 20)])["a"] == output
        assert isinstance(target.runner, FakeRunner)
        assert target.runner.num_computed_tokens == 2 + len(output) - 1


def test_steps_are_repeated_while_nobody_looks() -> None:
    target = engine("repeated")
    for name in "ab":
        target.add(request(name, (20, 21), 21, ignore_eos=True))
    num_turns = 0
    while target.has_work:
        target.step()
        num_turns += 1
    stats = target.stats()
    assert stats.generated_tokens == 42
    assert stats.steps == 21
    assert num_turns <= 5


@pytest.mark.parametrize("options", [{"stream_interval": 1}, {"priority": Priority.INTERACTIVE}])
def test_an_arrival_waits_for_no_more_than_one_turn(options: dict[str, Any]) -> None:
    target = engine("repeated")
    target.add(request("bulk", (20, 21), 200, ignore_eos=True))
    for _ in range(3):
        target.step()
    steps = target.stats().steps
    target.add(request("late", (30, 31), 1, **options))
    assert [output.request_id for output in target.step()] == ["late"]
    assert target.stats().steps == steps + 1


def test_a_turn_ends_with_a_row_if_others_wait_for_its_place() -> None:
    target = engine("repeated", max_num_seqs=2)
    rows = [request(str(i), (20 + i, 9), 3 + 2 * i, ignore_eos=True) for i in range(3)]
    tokens = run(target, rows)
    assert {name: len(each) for name, each in tokens.items()} == {"0": 3, "1": 5, "2": 7}
    assert target.stats().steps == 3 + 7, "the third began as soon as the first was done"


def test_what_a_step_in_flight_writes_to_stays_fenced_until_it_has_ended() -> None:
    pool = BlockPool(9, 4)
    mine = pool.allocate(3) or []
    pool.free(mine, last_step=1)
    assert (pool.num_available, pool.num_fenced) == (5, 3)
    pool.check([])
    assert pool.allocate(6) is None
    others = pool.allocate(5) or []
    assert not {*mine} & {*others}
    pool.release(1)
    assert (pool.num_available, pool.num_fenced) == (3, 0)
    pool.check([others])


def test_a_fenced_block_may_be_shared_again_and_outlives_its_fence() -> None:
    pool = BlockPool(5, 4)
    mine = pool.allocate(1) or []
    pool.publish(mine[0], b"full")
    pool.free(mine, last_step=3)
    assert pool.allocate(0, pool.find([b"full"])) == mine
    pool.release(3)
    pool.check([mine])
    pool.free(mine, last_step=3)
    assert pool.num_available == pool.capacity


@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_step_that_cannot_be_launched_leaves_nothing_in_flight(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(step: object) -> None:
        raise RuntimeError("no thread is left")

    target = engine(mode)
    target.add(request("a", (20, 21), 4, ignore_eos=True))
    with monkeypatch.context() as patch:
        patch.setattr(target._executor, "launch", broken)
        with pytest.raises(RuntimeError, match="no thread is left"):
            target.step()
    target.check()
    assert run(target, [])["a"] == greedy_tokens((20, 21), 4, ignore_eos=True)


def test_a_step_that_the_scheduler_alone_has_in_flight_is_found_out() -> None:
    target = engine("one by one")
    target._scheduler.launch({})
    with pytest.raises(RuntimeError, match="0 steps are in flight, the scheduler has 1"):
        target.check()


def test_a_row_sent_back_to_wait_keeps_the_token_that_is_in_flight() -> None:
    target = engine("a step ahead")
    target.add(request("a", (20, 21, 22), 9, ignore_eos=True))
    target.step()
    target.step()
    scheduler = target._scheduler
    (row,) = scheduler._running
    num_tokens = len(row.token_ids)
    assert row.num_pending == 1
    scheduler._preempt(row)
    assert target.stats().kv_used_fraction > 0, "fenced"
    target.check()
    target.step()
    assert len(row.token_ids) == num_tokens + 1
    assert row.status is not SequenceStatus.FINISHED
    assert run(target, [])["a"] == greedy_tokens((20, 21, 22), 9, ignore_eos=True)


def test_penalties_and_bans_wait_for_the_token_before() -> None:
    params = SamplingParams(temperature=0, max_tokens=8, repetition_penalty=1.7, ignore_eos=True)
    one = Request("a", (20, 21), params, stream_interval=0)
    assert run(engine("a step ahead"), [one]) == run(engine("one by one"), [one])
    assert run(engine("repeated"), [one]) == run(engine("one by one"), [one])


def test_a_failure_in_the_middle_of_a_turn_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine("repeated")
    execute, calls = target.runner.execute, iter(range(1000))

    def flaky(batch: StepBatch) -> torch.Tensor:
        if next(calls) % 5 == 4:
            raise RuntimeError("not now")
        return execute(batch)

    monkeypatch.setattr(target.runner, "execute", flaky)
    rows = [request(str(i), (20 + i, 9), 20, ignore_eos=True) for i in range(3)]
    tokens = run(target, rows)
    assert tokens == {
        one.request_id: greedy_tokens(one.prompt_token_ids, 20, ignore_eos=True) for one in rows
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), torch.AcceleratorError()])
@pytest.mark.parametrize("mode", ALL_MODES)
def test_a_step_that_is_interrupted_leaves_no_block_behind(
    mode: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(batch: StepBatch) -> torch.Tensor:
        raise error

    target = engine(mode, num_blocks=5, block_size=4)
    target.add(request("a", (*range(20, 32),), 4))
    target.step()
    with monkeypatch.context() as patch:
        patch.setattr(target.runner, "execute", interrupted)
        with pytest.raises(type(error)):
            for _ in range(3):
                target.step()
    target.abort("a")
    target.check()
    assert [output.finish_reason for output in target.step()] == [FinishReason.ABORT]
    assert target.stats().kv_used_fraction == 0.0
    again = request("b", (*range(40, 52),), 4, ignore_eos=True)
    assert run(target, [again])["b"] == greedy_tokens((*range(40, 52),), 4, ignore_eos=True)


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "device", "pytorch"],
)
def test_want_of_memory_makes_passes_smaller_and_fails_nobody(
    mode: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = engine(mode)
    execute = target.runner.execute
    sizes: list[int] = []

    def small(batch: StepBatch) -> torch.Tensor:
        if batch.num_tokens > 10:
            raise error
        sizes.append(batch.num_tokens)
        return execute(batch)

    monkeypatch.setattr(target.runner, "execute", small)
    rows = [request(str(i), (*range(20, 45), 60 + i), 20, ignore_eos=True) for i in range(4)]
    tokens = run(target, rows)
    assert tokens == {
        one.request_id: greedy_tokens(one.prompt_token_ids, 20, ignore_eos=True) for one in rows
    }
    stats = target.stats()
    assert stats.errors == 0
    assert 0 < stats.memory_errors <= 3
    assert max(sizes) > 5, "no smaller than need be"


def test_passes_grow_again_in_quiet_times(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine("one by one")
    execute = target.runner.execute
    is_short = True
    sizes: list[int] = []

    def sometimes(batch: StepBatch) -> torch.Tensor:
        if is_short and batch.num_tokens > 4:
            raise MemoryError
        sizes.append(batch.num_tokens)
        return execute(batch)

    monkeypatch.setattr(target.runner, "execute", sometimes)
    run(target, [request("a", tuple(range(20, 60)), 2)])
    is_short = False
    run(target, [request("b", tuple(range(61, 65)), 400, ignore_eos=True)])
    sizes.clear()
    run(target, [request("c", tuple(range(70, 110)), 1)])
    assert sizes == [40]


def test_a_row_too_large_for_the_memory_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine("one by one")
    execute = target.runner.execute

    def no_room(batch: StepBatch) -> torch.Tensor:
        if 77 in batch.token_ids:
            raise MemoryError("77 needs too much")
        return execute(batch)

    monkeypatch.setattr(target.runner, "execute", no_room)
    for name, prompt in (("good", (20, 21)), ("bad", (30, 77, 31))):
        target.add(request(name, prompt, 3, ignore_eos=True))
    ends = {output.request_id: output for _ in range(9) for output in target.step()}
    assert [*ends["good"].token_ids] == greedy_tokens((20, 21), 3, ignore_eos=True)
    error = ends["bad"].error
    assert error is not None
    assert error.retryable
    assert "77 needs too much" in error.message


def test_the_next_step_is_laid_out_as_if_it_had_been_built() -> None:
    tables = [[5, 3], [7, 9], [2, 4, 6]]
    rows = [
        ScheduledRow([1], position, table)
        for position, table in zip((2, 3, 9), tables, strict=True)
    ]
    device = torch.device("cpu")
    first = build_step_batch(rows, 4, device, num_more=2)
    second = next_step_batch(first, [11, 12, 13], [0, 1, 2], 4)
    third = next_step_batch(second, [21, 22, 23], [0, 2], 4)
    expected = build_step_batch(
        [ScheduledRow([21], 4, tables[0]), ScheduledRow([23], 11, tables[2])], 4, device
    )
    for name in ("token_ids", "positions", "slots", "query_start", "context_lens", "logit_rows"):
        assert torch.equal(getattr(third, name), getattr(expected, name)), name
        assert getattr(third, name).dtype == getattr(expected, name).dtype, name
    assert torch.equal(third.block_tables[:, :3], expected.block_tables)
    assert third.max_context_len == expected.max_context_len == 12
