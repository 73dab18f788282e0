"""Greedy tokens are those of transformers in float32, however the work is cut and shared."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.model_place import DEMO_MODEL, resolve_model
from penstock.engine.outputs import Request, StepOutput
from penstock.engine.sampling_params import SamplingParams

from .checkpoints import TINY_MODELS, judge
from .tiny_tokenizers import byte_level

MAX_TOKENS = 24
LENGTHS = (1, 2, 15, 16, 17, 31, 33, 70)
Checkpoint = Callable[[str], Path]
Prompt = tuple[int, ...]


def random_prompts(vocab_size: int, lengths: tuple[int, ...] = LENGTHS) -> list[Prompt]:
    generator = torch.Generator().manual_seed(3)
    return [
        tuple(torch.randint(3, vocab_size, (length,), generator=generator).tolist())
        for length in lengths
    ]


@torch.inference_mode()
def judged(model: PreTrainedModel, prompt: Prompt) -> tuple[list[int], list[torch.Tensor]]:
    """Return transformers' greedy tokens, and its logits before each of them."""
    cache, tokens = None, torch.tensor([prompt])
    chosen: list[int] = []
    logits: list[torch.Tensor] = []
    for _ in range(MAX_TOKENS):
        output = model(tokens, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits[0, -1].float())
        chosen.append(int(logits[-1].argmax()))
        tokens = torch.tensor([[chosen[-1]]])
    return chosen, logits


def engine(directory: Path, **options: Any) -> Engine:
    settings = {"dtype": "float32", "device": "cpu", "kv_cache_gb": 0.02, **options}
    return Engine(EngineConfig(model=str(directory), **settings), tokenizer=byte_level())


def greedy(prompt: Prompt, name: str = "0", **params: Any) -> Request:
    params = {"temperature": 0, "max_tokens": MAX_TOKENS, "ignore_eos": True, **params}
    return Request(name, prompt, SamplingParams(**params), stream_interval=0)


def run(target: Engine, requests: list[Request]) -> dict[tuple[str, int], StepOutput]:
    outputs: dict[tuple[str, int], StepOutput] = {}
    for one in requests:
        assert target.add(one) is None
    while target.has_work:
        outputs |= {(output.request_id, output.sample_index): output for output in target.step()}
    target.check()
    assert target.stats().kv_used_fraction == 0.0
    return outputs


def tokens_of(target: Engine, prompts: list[Prompt]) -> list[list[int]]:
    outputs = run(target, [greedy(prompt, str(i)) for i, prompt in enumerate(prompts)])
    return [list(outputs[str(i), 0].token_ids) for i in range(len(prompts))]


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_family_says_what_transformers_says(name: str, tiny_checkpoint: Checkpoint) -> None:
    """Alone, together, in chunks of several sizes, and with the prompts cached."""
    directory = tiny_checkpoint(name)
    prompts = random_prompts(263)
    model = judge(directory)
    expected = [judged(model, prompt)[0] for prompt in prompts]
    together = engine(directory)
    assert tokens_of(together, prompts) == expected
    assert tokens_of(together, prompts) == expected, "with every prompt cached"
    assert together.stats().cached_tokens > 0
    assert [tokens_of(together, [prompt])[0] for prompt in prompts] == expected
    for budget, slots in ((15, 3), (17, 8)):
        chunked = engine(directory, max_num_batched_tokens=budget, max_num_seqs=slots)
        assert tokens_of(chunked, prompts) == expected


@pytest.fixture(scope="module")
def llama(tiny_checkpoint: Checkpoint) -> tuple[Path, list[Prompt], list[list[int]]]:
    directory = tiny_checkpoint("llama")
    prompts = random_prompts(263)
    model = judge(directory)
    return directory, prompts, [judged(model, prompt)[0] for prompt in prompts]


@pytest.mark.parametrize("budget", [1, 15, 16, 17, 31, 2048])
@pytest.mark.parametrize("enable_prefix_caching", [True, False])
def test_any_chunk_gives_the_same_tokens(
    llama: tuple[Path, list[Prompt], list[list[int]]], budget: int, enable_prefix_caching: bool
) -> None:
    directory, prompts, expected = llama
    target = engine(
        directory,
        max_num_batched_tokens=budget,
        max_num_seqs=min(budget, 8),
        enable_prefix_caching=enable_prefix_caching,
    )
    assert tokens_of(target, prompts) == expected


@pytest.mark.parametrize("block_size", [1, 16, 32, 64])
def test_any_block_size_gives_the_same_tokens(
    llama: tuple[Path, list[Prompt], list[list[int]]], block_size: int
) -> None:
    directory, prompts, expected = llama
    assert tokens_of(engine(directory, block_size=block_size), prompts) == expected


MODES: list[dict[str, Any]] = [
    {"async_steps": is_async, "steps_per_turn": steps}
    for is_async in (False, True)
    for steps in (1, 3, 8)
]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_steps_ahead_and_steps_in_a_row_give_the_same_tokens(
    llama: tuple[Path, list[Prompt], list[list[int]]], mode: dict[str, Any]
) -> None:
    directory, prompts, expected = llama
    target = engine(directory, max_num_seqs=5, max_num_batched_tokens=31, **mode)
    assert tokens_of(target, prompts) == expected
    drawn = [
        greedy(prompt, str(i), temperature=0.9, seed=i, top_p=0.9, logprobs=2, min_tokens=4)
        for i, prompt in enumerate(prompts)
    ]
    plain = run(engine(directory, async_steps=False, steps_per_turn=1), drawn)
    moded = run(target, drawn)
    for key, output in plain.items():
        assert moded[key].token_ids == output.token_ids
        for ours, theirs in zip(moded[key].logprobs or (), output.logprobs or (), strict=True):
            assert ours.token_id == theirs.token_id
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)


@pytest.mark.parametrize("num_rows", [2, 7, 64])
def test_any_company_gives_the_same_tokens(
    llama: tuple[Path, list[Prompt], list[list[int]]], num_rows: int
) -> None:
    directory, prompts, expected = llama
    target = engine(directory, max_num_seqs=num_rows)
    places = [number % len(prompts) for number in range(num_rows)]
    answers = tokens_of(target, [prompts[place] for place in places])
    assert answers == [expected[place] for place in places]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_row_preempted_after_every_step_gives_the_same_tokens(
    llama: tuple[Path, list[Prompt], list[list[int]]], is_async: bool
) -> None:
    directory, prompts, expected = llama
    target = engine(directory, async_steps=is_async, steps_per_turn=1, max_num_batched_tokens=70)
    assert target.add(greedy(prompts[-1])) is None
    outputs: list[StepOutput] = []
    while target.has_work:
        outputs += target.step()
        for row in [*target._scheduler._running]:
            if row.num_generated:
                target._scheduler._preempt(row)
        target.check()
    assert [list(output.token_ids) for output in outputs] == [expected[-1]]
    assert target.stats().preemptions >= MAX_TOKENS - 2


def test_rows_preempted_for_want_of_blocks_give_the_same_tokens(
    llama: tuple[Path, list[Prompt], list[list[int]]],
) -> None:
    directory, prompts, expected = llama
    blocks = engine(directory).runner.num_blocks
    target = engine(directory, kv_cache_gb=9 * 0.02 / blocks, max_num_seqs=8)
    target._scheduler._admission._forecasts.observe("", 1)  # so that too many are let in
    uncertain = {"stop_token_ids": (1 << 20,)}  # else it is known how long they get
    outputs = run(target, [greedy(p, str(i), **uncertain) for i, p in enumerate(prompts)])
    assert [[*outputs[str(i), 0].token_ids] for i in range(len(prompts))] == expected
    assert target.stats().preemptions > 0


@pytest.mark.parametrize("enable_prefix_caching", [True, False])
def test_rows_preempted_at_any_moment_give_the_same_tokens(
    llama: tuple[Path, list[Prompt], list[list[int]]], enable_prefix_caching: bool
) -> None:
    directory, prompts, expected = llama
    target = engine(
        directory,
        max_num_batched_tokens=33,
        max_num_seqs=8,
        enable_prefix_caching=enable_prefix_caching,
        steps_per_turn=1,
    )
    scheduler = target._scheduler
    chance = random.Random(4)
    outputs: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        target.add(greedy(prompt, str(place)))
    while target.has_work:
        outputs |= {int(output.request_id): list(output.token_ids) for output in target.step()}
        if scheduler._running and chance.random() < 0.5:
            scheduler._preempt(chance.choice(scheduler._running))
        target.check()
    assert [outputs[place] for place in range(len(prompts))] == expected
    assert target.stats().preemptions > 10


def test_a_common_beginning_gives_the_same_tokens(tiny_checkpoint: Checkpoint) -> None:
    directory = tiny_checkpoint("qwen3")
    beginning, *endings = random_prompts(263, (53, 1, 7, 20, 33))
    prompts = [beginning + ending for ending in endings]
    model = judge(directory)
    target = engine(directory)
    assert tokens_of(target, prompts) == [judged(model, prompt)[0] for prompt in prompts]
    assert target.stats().cached_tokens == 3 * 48


def test_samples_of_one_request_are_those_of_many(
    llama: tuple[Path, list[Prompt], list[list[int]]],
) -> None:
    directory, prompts, expected = llama
    outputs = run(engine(directory), [greedy(prompts[-1], n=4)])
    assert [list(outputs["0", i].token_ids) for i in range(4)] == [expected[-1]] * 4
    drawn = greedy(prompts[-1], n=4, temperature=1.0, seed=5, top_p=0.95)
    forked = run(engine(directory), [drawn])
    crowd = [greedy(prompt, f"crowd {i}") for i, prompt in enumerate(prompts)]
    again = run(engine(directory, max_num_batched_tokens=31, max_num_seqs=5), [*crowd, drawn])
    for index in range(4):
        assert forked["0", index].token_ids == again["0", index].token_ids
    assert len({forked["0", index].token_ids for index in range(4)}) == 4


def test_logprobs_are_those_of_transformers(
    llama: tuple[Path, list[Prompt], list[list[int]]],
) -> None:
    directory, prompts, _ = llama
    model = judge(directory)
    target = engine(directory, max_num_batched_tokens=31, max_num_seqs=8)
    outputs = run(target, [greedy(prompt, str(i), logprobs=4) for i, prompt in enumerate(prompts)])
    for place, prompt in enumerate(prompts):
        records = outputs[str(place), 0].logprobs
        assert records is not None
        for record, logits in zip(records, judged(model, prompt)[1], strict=True):
            expected = torch.log_softmax(logits, dim=-1)
            assert record.logprob == pytest.approx(float(expected[record.token_id]), abs=1e-4)
            values, ids = expected.topk(4)
            assert [token_id for token_id, _ in record.top] == ids.tolist()
            assert [v for _, v in record.top] == pytest.approx(values.tolist(), abs=1e-4)


@pytest.mark.parametrize("mode", [MODES[0], MODES[2], MODES[3]], ids=str)
def test_the_demo_model_says_what_transformers_says(mode: dict[str, Any]) -> None:
    directory = resolve_model(DEMO_MODEL)
    target = Engine(
        EngineConfig(model=DEMO_MODEL, dtype="float32", device="cpu", kv_cache_gb=0.05, **mode)
    )
    model = judge(directory)
    prompts: list[Prompt] = []
    for content in ("Add 12 and 30.", "Add 7 and 5.", "Tell a story.", "Hello! " * 20):
        ids = target.tokenizer.encode_chat([{"role": "user", "content": content}])
        assert isinstance(ids, tuple)
        prompts.append(ids)
    expected = [judged(model, prompt)[0] for prompt in prompts]
    assert tokens_of(target, prompts) == expected
