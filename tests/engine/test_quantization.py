"""Layers in 8-bit whole numbers: near the model's own logits, and exact in their bits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from penstock.engine.architecture import UnsupportedModel
from penstock.engine.config import EngineConfig
from penstock.kernels import reference
from penstock.kernels.cpu import CpuOps
from tests.kernels.cpu_cases import required_library

from .checkpoints import SMALL
from .test_models import logits_in_chunks, make_runner, random_prompt
from .test_transformers_fallback import save

Checkpoints = Callable[[str], Path]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name", ["llama", "qwen2", "qwen2-head-24", "qwen3", "phi3-partial", "mixtral-all-chosen"]
)
def test_logits_point_the_same_way(name: str, dtype: str, tiny_checkpoint: Checkpoints) -> None:
    prompts = [random_prompt(50)]
    (expected,) = logits_in_chunks(make_runner(tiny_checkpoint(name)), prompts, 10)
    quantized = make_runner(tiny_checkpoint(name), dtype=dtype, quantization="int8")
    (found,) = logits_in_chunks(quantized, prompts, 10)
    assert not torch.equal(found, expected)
    assert cosine_similarity(found, expected, dim=-1).min() > 0.98


@pytest.mark.parametrize("name", ["llama", "qwen3-moe"])
def test_bits_do_not_depend_on_steps_or_company(name: str, tiny_checkpoint: Checkpoints) -> None:
    required_library()
    runner = make_runner(tiny_checkpoint(name), quantization="int8")
    prompts = [random_prompt(200 - 31 * i, seed=i) for i in range(5)]
    (expected,) = logits_in_chunks(runner, prompts[:1], 1)
    for chunk in (7, 100, 200):
        found, *_ = logits_in_chunks(runner, prompts, chunk)
        last = [min(end, 200) - 1 for end in range(chunk, 200 + chunk, chunk)]
        assert torch.equal(found, expected[last])


def test_the_kernels_and_their_twin_say_the_same(
    tiny_checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [random_prompt(40)]
    directory = tiny_checkpoint("llama")
    (found,) = logits_in_chunks(make_runner(directory, quantization="int8"), prompts, 10)
    monkeypatch.setattr(CpuOps, "create", lambda *_: None)
    plain = make_runner(directory, quantization="int8")
    assert plain._decoder.ops is reference  # pyright: ignore
    (expected,) = logits_in_chunks(plain, prompts, 10)
    # A number on the border between two whole ones may fall to either side.
    assert cosine_similarity(found, expected, dim=-1).min() > 0.999


def test_an_unknown_quantization_is_refused() -> None:
    with pytest.raises(ValueError, match="quantization must be one of none, int8, got 'int4'"):
        EngineConfig(device="cpu", quantization="int4")


def test_a_gpu_has_none() -> None:
    with pytest.raises(ValueError, match="quantization must be none on cuda, got 'int8'"):
        EngineConfig(device="cuda", quantization="int8")


def test_a_model_that_transformers_runs_has_none(tmp_path: Path) -> None:
    directory = save(tmp_path, "stablelm", SMALL)
    with pytest.raises(UnsupportedModel, match="quantization must be none"):
        make_runner(directory, quantization="int8")
