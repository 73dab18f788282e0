"""The device's path gives the tokens of the host's, whatever rows ask for and however they arrive.

On a CPU, where both draw alike; a real model, so that shapes, padding and the null block count.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.engine.captured import StepKind
from penstock.engine.config import EngineConfig
from penstock.engine.device_sampler import Needs
from penstock.engine.device_steps import DeviceSteps
from penstock.engine.engine import Engine
from penstock.engine.graphs import RecordedWork
from penstock.engine.model_place import DEMO_MODEL, resolve_model
from penstock.engine.outputs import Priority, Request, StepOutput
from penstock.engine.sampling_params import SamplingParams

from .formed_rows import BUDGET_S
from .tiny_tokenizers import byte_level

Checkpoint = Callable[[str], Path]
Outputs = dict[tuple[str, int], StepOutput]

ASKED: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "logprobs": 3},
    {"temperature": 0, "repetition_penalty": 1.4},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 0.9, "seed": 2, "top_p": 0.8, "n": 3},
    {"temperature": 1.0, "seed": 3, "top_k": 7, "frequency_penalty": 0.5, "presence_penalty": 0.2},
    {"temperature": 1.0, "seed": 4, "min_p": 0.05, "logit_bias": {40: 3.0, 41: -100.0}},
    {"temperature": 1.0, "seed": 5, "allowed_token_ids": (*range(50, 90),), "logprobs": 0},
    {"temperature": 0, "min_tokens": 9, "ignore_eos": False},
    {"temperature": 0.8, "seed": 6, "stop": ("e",), "min_tokens": 2},
]
BY_HOST: list[dict[str, Any]] = [
    {"temperature": 0, "bad_words": ("ab", "c")},
    {"temperature": 0, "prompt_logprobs": 1},
    {"temperature": 0, "structured_outputs": {"regex": "[a-f]{3,9}"}},
]


def requests() -> list[Request]:
    chance = random.Random(11)
    beginning = [chance.randrange(3, 263) for _ in range(37)]
    made: list[Request] = []
    for number, params in enumerate(ASKED + BY_HOST):
        length = chance.choice([1, 2, 15, 16, 17, 33])
        prompt = beginning[: chance.choice([0, 0, 37])] + [
            chance.randrange(3, 263) for _ in range(length)
        ]
        values = {"max_tokens": chance.choice([1, 12, 20]), "ignore_eos": True, **params}
        made.append(
            Request(
                str(number),
                (*prompt,),
                SamplingParams(**values),
                stream_interval=0,
                priority=Priority.INTERACTIVE if number % 5 == 4 else Priority.BULK,
            )
        )
    return made


def live(directory: Path, asked: list[Request], *, seed: int = 0, **config: Any) -> Outputs:
    """Serve requests that arrive over time; with a seed, rows are sent back to wait."""
    settings = {
        "dtype": "float32",
        "device": "cpu",
        "kv_cache_gb": 0.02,
        "grammar_timeout_s": BUDGET_S,
        **config,
    }
    target = Engine(EngineConfig(model=str(directory), **settings), tokenizer=byte_level())
    chance = random.Random(seed)
    scheduler, waiting, outputs = target._scheduler, [*asked], dict[tuple[str, int], StepOutput]()
    while waiting or target.has_work:
        for _ in range(min(len(waiting), chance.randrange(3))):
            assert target.add(waiting.pop(0)) is None
        outputs |= {(output.request_id, output.sample_index): output for output in target.step()}
        if seed and scheduler._running and chance.random() < 0.4:
            scheduler._preempt(chance.choice(scheduler._running))
        target.check()
    assert target.stats().kv_used_fraction == 0.0
    assert target.stats().preemptions > 3 or not seed
    return outputs


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint) -> Path:
    return tiny_checkpoint("llama")


@pytest.fixture(scope="module")
def expected(model: Path) -> Outputs:
    return live(model, requests(), async_steps=False, steps_per_turn=1)


def same(found: Outputs, expected: Outputs) -> None:
    assert found.keys() == expected.keys()
    for key, output in expected.items():
        assert found[key].error == output.error
        assert found[key].token_ids == output.token_ids, key
        assert found[key].finish_reason == output.finish_reason
        pairs = zip(found[key].logprobs or (), output.logprobs or (), strict=True)
        for ours, theirs in pairs:
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)
            assert [token for token, _ in ours.top] == [token for token, _ in theirs.top]


@pytest.mark.parametrize("graphs", [False, True], ids=["launched", "captured"])
@pytest.mark.parametrize("is_async", [False, True], ids=["one by one", "ahead"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_num_seqs": 64},
        {"max_num_seqs": 5, "max_num_batched_tokens": 17},
        {"max_num_seqs": 8, "max_num_batched_tokens": 33, "seed": 3},
        {"max_num_seqs": 8, "enable_prefix_caching": False, "seed": 4},
    ],
    ids=["together", "chunks", "preempted", "no cache"],
)
def test_every_row_gets_the_tokens_of_the_hosts_path(
    model: Path, expected: Outputs, options: dict[str, Any], is_async: bool, graphs: bool
) -> None:
    mode = {"device_steps": True, "cuda_graphs": graphs, "async_steps": is_async}
    same(live(model, requests(), **mode, **options), expected)


def test_rows_that_the_device_serves_never_ask_the_host(
    model: Path, expected: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[bool] = []
    serves = DeviceSteps.serves

    def noted(self: DeviceSteps, parts: Any) -> bool:
        served.append(serves(self, parts))
        return served[-1]

    monkeypatch.setattr(DeviceSteps, "serves", noted)
    asked = requests()[: len(ASKED)]
    found = live(model, asked, device_steps=True, cuda_graphs=True, async_steps=True)
    same(found, {key: output for key, output in expected.items() if int(key[0]) < len(ASKED)})
    assert served
    assert all(served)


@pytest.mark.parametrize("name", ["gemma2", "qwen3-moe", "mistral", "olmo2"])
def test_every_kind_of_layer_bears_padding(name: str, tiny_checkpoint: Checkpoint) -> None:
    directory, asked = tiny_checkpoint(name), requests()[:5]
    plain = live(directory, asked, async_steps=False, steps_per_turn=1)
    same(live(directory, asked, device_steps=True, cuda_graphs=True, async_steps=True), plain)


@pytest.mark.parametrize("graphs", [False, True], ids=["launched", "captured"])
def test_the_demo_model_says_the_same(graphs: bool) -> None:
    directory, asked = resolve_model(DEMO_MODEL), requests()[: len(ASKED)]
    plain = live(directory, asked, async_steps=False, steps_per_turn=1)
    mode = {"device_steps": True, "cuda_graphs": graphs, "async_steps": True}
    same(live(directory, asked, max_num_batched_tokens=64, max_num_seqs=6, **mode), plain)


@torch.inference_mode()
def test_padding_leaves_the_cache_as_it_is(model: Path) -> None:
    config = EngineConfig(
        model=str(model), device="cpu", kv_cache_gb=0.02, device_steps=True, cuda_graphs=True
    )
    target = Engine(config, tokenizer=byte_level())
    runner: Any = target.runner
    runner._cache._storage.fill_(7.0)
    live_steps = DeviceSteps.of(target.runner, config)
    for num_rows in (1, 8):
        kind = StepKind(num_rows, width=4, needs=Needs.NOTHING, has_groups=False)
        live_steps._capture_for(kind, RecordedWork())()
        for num_prompt_tokens in (0, 20):
            live_steps.launch_padding(kind, num_prompt_tokens)
    assert (runner._cache._storage == 7.0).all()
