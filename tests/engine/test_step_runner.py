"""What a failed pass leaves behind, and what is tried again where memory is short."""

from typing import Any
from weakref import WeakSet

import pytest
import torch

from penstock.engine import step_runner
from penstock.engine.batch import StepBatch
from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import FinishReason, Request, StepOutput, TokenLogprobs
from penstock.engine.pooling import PooledPart, Pooling, PoolingKind
from penstock.engine.sampling_params import SamplingParams

from .fake_runner import POISON, FakeRunner, greedy_tokens
from .tiny_tokenizers import byte_level

PROMPT = tuple(range(20, 36))


class Activations:
    """What a pass makes, and needs no longer than it takes."""


class TightRunner(FakeRunner):
    """A model with memory for passes of `capacity` tokens.

    Attributes:
        passes: tokens of each pass that was tried, and the activations that others held then.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.passes: list[tuple[int, int]] = []
        self._held = WeakSet[Activations]()

    def execute(self, batch: StepBatch) -> torch.Tensor:
        self.passes.append((batch.num_tokens, len(self._held)))
        activations = Activations()
        self._held.add(activations)
        if batch.num_tokens > self.capacity:
            raise MemoryError
        return super().execute(batch)


def engine(runner: FakeRunner, **config: Any) -> Engine:
    return Engine(
        EngineConfig(device="cpu", async_steps=False, **config),
        runner=runner,
        tokenizer=byte_level(),
    )


def run(target: Engine, *requests: Request) -> dict[str, StepOutput]:
    for one in requests:
        assert target.add(one) is None
    outputs: dict[str, StepOutput] = {}
    while target.has_work:
        outputs |= {output.request_id: output for output in target.step()}
        target.check()
    return outputs


def greedy(name: str, prompt: tuple[int, ...], max_tokens: int = 1, **options: Any) -> Request:
    params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, **options)
    return Request(name, prompt, params, stream_interval=0)


def test_a_pass_that_is_halved_has_let_go_of_what_it_held() -> None:
    runner = TightRunner(capacity=4)
    run(engine(runner), greedy("a", PROMPT))
    assert runner.passes == [(16, 0), (8, 0), (4, 0), (4, 0), (8, 0), (4, 0), (4, 0)]


def test_a_step_that_is_taken_apart_has_let_go_of_what_it_held() -> None:
    runner = TightRunner(capacity=100)
    outputs = run(engine(runner), greedy("a", PROMPT), greedy("b", (20, POISON)))
    assert runner.passes == [(18, 0), (16, 0), (2, 0)]
    assert outputs["b"].finish_reason is FinishReason.ERROR
    assert outputs["a"].token_ids == (*greedy_tokens(PROMPT, 1, ignore_eos=True),)


def test_a_prompt_is_told_of_in_halves_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token_logprobs = step_runner.token_logprobs

    def short(logits: torch.Tensor, *details: Any) -> list[TokenLogprobs]:
        if len(logits) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return token_logprobs(logits, *details)

    one = greedy("a", PROMPT, prompt_logprobs=1)
    expected = run(engine(FakeRunner()), one)
    monkeypatch.setattr(step_runner, "token_logprobs", short)
    target = engine(FakeRunner())
    assert run(target, one) == expected
    assert expected["a"].error is None
    assert target.stats().memory_errors == 1


def test_a_prompt_is_pooled_in_halves_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(places: range, total: Any) -> PooledPart:
        if len(places) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return PooledPart(places, total)

    pooling = Pooling(PoolingKind.MEAN, normalize=False)
    one = Request("a", PROMPT, SamplingParams(), pooling=pooling)
    expected = run(engine(FakeRunner()), one)
    monkeypatch.setattr(step_runner, "PooledPart", short)
    target = engine(FakeRunner())
    assert run(target, one) == expected
    assert expected["a"].error is None
    assert target.stats().memory_errors == 1


def test_steps_are_not_repeated_with_more_rows_than_fit_one_pass() -> None:
    runner = TightRunner(capacity=2)
    rows = [greedy(str(i), (20 + i,), max_tokens=4) for i in range(4)]
    outputs = run(engine(runner, steps_per_turn=4), *rows)
    assert [num_tokens for num_tokens, _ in runner.passes] == [4, *[2] * 8]
    for one in rows:
        expected = greedy_tokens(one.prompt_token_ids, 4, ignore_eos=True)
        assert outputs[one.request_id].token_ids == (*expected,)


def test_as_many_rows_as_fit_one_pass_have_their_steps_repeated() -> None:
    runner = TightRunner(capacity=2)
    target = engine(runner, steps_per_turn=4)
    run(target, greedy("long", PROMPT), greedy("a", (20,), max_tokens=12))
    assert target.stats().memory_errors > 0
    runner.passes.clear()
    target.add(greedy("b", (21,), max_tokens=12))
    num_turns = 0
    while target.has_work:
        target.step()
        num_turns += 1
    assert len(runner.passes) == 12
    assert num_turns < 12
