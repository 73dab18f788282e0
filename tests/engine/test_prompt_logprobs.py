"""Log-probabilities of prompts: transformers' own, however the prompt is cut, shared or redone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from penstock import LLM
from penstock.engine.batch import StepBatch
from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import Request, StepOutput, TokenLogprobs
from penstock.engine.sampling_params import SamplingParams

from .checkpoints import judge
from .fake_runner import NAN, FakeRunner, greedy_tokens, logits_after
from .tiny_tokenizers import byte_level

Checkpoints = Callable[[str], Path]


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(10, 263, (length,), generator=generator).tolist())


def expected_of(prompt: tuple[int, ...]) -> list[float]:
    """What the fake model says of each token but the first."""
    return [
        float(torch.log_softmax(logits_after(list(prompt[:i])), dim=-1)[prompt[i]])
        for i in range(1, len(prompt))
    ]


def make_engine(num_blocks: int = 64, **options: int | bool) -> Engine:
    return Engine(
        EngineConfig(device="cpu", **{"max_num_seqs": 8, **options}),  # pyright: ignore[reportArgumentType]
        runner=FakeRunner(num_blocks),
        tokenizer=byte_level(),
    )


def run(engine: Engine, requests: list[Request]) -> dict[tuple[str, int], list[StepOutput]]:
    for request in requests:
        assert engine.add(request) is None
    outputs: dict[tuple[str, int], list[StepOutput]] = {}
    while engine.has_work:
        for output in engine.step():
            outputs.setdefault((output.request_id, output.sample_index), []).append(output)
        engine.check()
    return outputs


def told(outputs: list[StepOutput]) -> tuple[TokenLogprobs | None, ...]:
    """The one report of the prompt among a sample's outputs."""
    reports = [output.prompt_logprobs for output in outputs if output.prompt_logprobs is not None]
    assert len(reports) == 1
    return reports[0]


def assert_right(
    records: tuple[TokenLogprobs | None, ...], prompt: tuple[int, ...], num_top: int
) -> None:
    assert records[0] is None
    assert len(records) == len(prompt)
    found = [record for record in records if record is not None]
    assert [record.token_id for record in found] == list(prompt[1:])
    assert {len(record.top) for record in found} <= {num_top}
    assert [record.logprob for record in found] == pytest.approx(expected_of(prompt), abs=1e-5)


@pytest.mark.parametrize("num_batched", [8, 17, 64, 2048])
@pytest.mark.parametrize("interval", [0, 1])
def test_chunks_and_streams_change_nothing(num_batched: int, interval: int) -> None:
    engine = make_engine(max_num_batched_tokens=num_batched)
    params = SamplingParams(temperature=0, max_tokens=4, prompt_logprobs=2, ignore_eos=True)
    prompts = [prompt_of(length, length) for length in (1, 2, 15, 16, 17, 60)]
    outputs = run(
        engine,
        [Request(str(i), p, params, stream_interval=interval) for i, p in enumerate(prompts)],
    )
    for i, prompt in enumerate(prompts):
        assert_right(told(outputs[str(i), 0]), prompt, 2)
        tokens = [t for output in outputs[str(i), 0] for t in output.token_ids]
        assert tokens == greedy_tokens(prompt, 4, ignore_eos=True)


def test_a_cached_prompt_is_told_of_in_full_and_shared_with_others() -> None:
    engine = make_engine()
    prompt = prompt_of(50)
    plain = SamplingParams(temperature=0, max_tokens=2)
    asking = SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=0)
    run(engine, [Request("first", prompt, plain)])
    outputs = run(engine, [Request("asks", prompt, asking)])
    assert_right(told(outputs["asks", 0]), prompt, 0)
    assert outputs["asks", 0][-1].num_cached_tokens == 0
    other = prompt_of(50, 1)
    run(engine, [Request("asks", other, asking)])
    outputs = run(engine, [Request("then", other, plain)])
    assert outputs["then", 0][-1].num_cached_tokens == 48
    assert outputs["then", 0][-1].prompt_logprobs is None


def test_the_first_sample_tells_for_all_and_the_others_share_its_blocks() -> None:
    engine = make_engine()
    prompt = prompt_of(70)
    params = SamplingParams(seed=1, n=3, max_tokens=3, prompt_logprobs=1, ignore_eos=True)
    outputs = run(engine, [Request("r", prompt, params)])
    assert_right(told(outputs["r", 0]), prompt, 1)
    for sample in (1, 2):
        assert all(output.prompt_logprobs is None for output in outputs["r", sample])
        assert outputs["r", sample][-1].num_cached_tokens == 64


@pytest.mark.parametrize("interval", [0, 1])
@pytest.mark.parametrize("preempted_after", range(9))
def test_preemption_loses_and_doubles_nothing(preempted_after: int, interval: int) -> None:
    engine = make_engine(max_num_batched_tokens=20)
    prompt = prompt_of(90)
    params = SamplingParams(
        temperature=0, max_tokens=6, prompt_logprobs=0, logprobs=0, ignore_eos=True
    )
    engine.add(Request("r", prompt, params, stream_interval=interval))
    outputs: list[StepOutput] = []
    num_steps = 0
    while engine.has_work:
        outputs += engine.step()
        engine.check()
        num_steps += 1
        if num_steps == preempted_after and engine.has_work:
            engine._scheduler._preempt(engine._live["r"][0])
    assert_right(told(outputs), prompt, 0)
    tokens = [token for output in outputs for token in output.token_ids]
    assert tokens == greedy_tokens(prompt, 6, ignore_eos=True)
    assert [r.token_id for output in outputs for r in output.logprobs or ()] == tokens


def test_a_step_asks_for_no_more_than_1024_rows_of_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine(num_blocks=400, max_num_batched_tokens=4096)
    asked: list[int] = []
    execute = engine.runner.execute

    def counting(batch: StepBatch) -> torch.Tensor:
        asked.append(len(batch.logit_rows))
        return execute(batch)

    monkeypatch.setattr(engine.runner, "execute", counting)
    params = SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=0)
    plain = SamplingParams(temperature=0, max_tokens=2)
    prompts = [prompt_of(700, seed) for seed in range(3)]
    requests = [Request(str(i), prompt, params) for i, prompt in enumerate(prompts)]
    outputs = run(engine, [*requests, Request("plain", prompt_of(1000, 9), plain)])
    for i, prompt in enumerate(prompts):
        assert_right(told(outputs[str(i), 0]), prompt, 0)
    assert 1024 <= max(asked) <= 1024 + 4
    assert outputs["plain", 0][-1].finish_reason in {"stop", "length"}


def test_a_model_that_returns_nonsense_fails_the_row_alone() -> None:
    engine = make_engine(max_num_batched_tokens=16)
    params = SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=0)
    good = prompt_of(30)
    bad = (*prompt_of(20, 1), NAN, *prompt_of(40, 2))
    outputs = run(engine, [Request("good", good, params), Request("bad", bad, params)])
    assert_right(told(outputs["good", 0]), good, 0)
    (error,) = [output.error for output in outputs["bad", 0]]
    assert error is not None
    assert error.message == "the model's logits are not finite numbers"


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_real_models_agree_with_transformers(name: str, tiny_checkpoint: Checkpoints) -> None:
    directory = tiny_checkpoint(name)
    engine = Engine(
        EngineConfig(
            model=str(directory), dtype="float32", device="cpu", kv_cache_gb=0.01,
            max_num_seqs=4, max_num_batched_tokens=24,
        ),
        tokenizer=byte_level(),
    )  # fmt: skip
    params = SamplingParams(temperature=0, max_tokens=3, prompt_logprobs=3)
    prompts = [prompt_of(length, length) for length in (5, 33, 70)]
    outputs = run(engine, [Request(str(i), p, params) for i, p in enumerate(prompts)])
    model = judge(directory)
    for i, prompt in enumerate(prompts):
        with torch.no_grad():
            expected = torch.log_softmax(model(torch.tensor([prompt])).logits[0], dim=-1)
        for place, record in enumerate(told(outputs[str(i), 0])):
            if record is None:
                assert place == 0
                continue
            assert record.logprob == pytest.approx(
                float(expected[place - 1, prompt[place]]), abs=1e-4
            )
            values, ids = torch.topk(expected[place - 1], 3)
            assert [token for token, _ in record.top] == ids.tolist()
            assert [value for _, value in record.top] == pytest.approx(values.tolist(), abs=1e-4)


def test_generate_returns_them_beside_the_prompt() -> None:
    llm = LLM("penstock-demo", dtype="float32", device="cpu", kv_cache_gb=0.02, max_num_seqs=4)
    asking = SamplingParams(temperature=0, max_tokens=2, n=1, prompt_logprobs=1)
    plain = SamplingParams(temperature=0, max_tokens=2)
    asked, not_asked = llm.generate(["Add 3 and 4.", "Hello"], [asking, plain])
    assert not_asked.prompt_logprobs is None
    assert asked.prompt_logprobs is not None
    assert [record and record.token_id for record in asked.prompt_logprobs[1:]] == list(
        asked.prompt_token_ids[1:]
    )
