"""The cache of keys and values: its size, and its numbers in eight bits."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from penstock.engine.architecture import UnsupportedModel, read_architecture
from penstock.engine.config import EngineConfig
from penstock.engine.kv_cache import (
    GIB,
    BlockShape,
    MeasuredMemory,
    choose_cache_dtype,
    plan_num_blocks,
)
from penstock.engine.weights import CorruptCheckpoint
from penstock.kernels import reference

from .checkpoints import SMALL
from .test_models import FILE, logits_in_chunks, make_runner, random_prompt
from .test_transformers_fallback import save

Checkpoints = Callable[[str], Path]
FP8 = {"kv_cache_dtype": "fp8_e4m3"}


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2"])
def test_eight_bits_point_the_same_way(name: str, tiny_checkpoint: Checkpoints) -> None:
    prompts = [random_prompt(50), random_prompt(21, seed=1)]
    expected = logits_in_chunks(make_runner(tiny_checkpoint(name)), prompts, 10)
    found = logits_in_chunks(make_runner(tiny_checkpoint(name), **FP8), prompts, 10)
    for narrow, wide in zip(found, expected, strict=True):
        assert not torch.equal(narrow, wide)
        assert cosine_similarity(narrow, wide, dim=-1).min() > 0.99


def test_half_the_bytes_are_twice_the_blocks(tiny_checkpoint: Checkpoints) -> None:
    block_bytes = 2 * 2 * 2 * 16 * 16 * torch.bfloat16.itemsize  # layers, kinds, heads, dim, tokens
    sizes = {"kv_cache_gb": 40 * block_bytes / GIB, "dtype": "bfloat16"}
    wide = make_runner(tiny_checkpoint("llama"), **sizes)
    narrow = make_runner(tiny_checkpoint("llama"), **sizes, **FP8)
    assert (wide.num_blocks, narrow.num_blocks) == (40, 80)
    assert narrow._layer_caches[0].key.dtype == torch.float8_e4m3fn


def with_scales(source: Path, target: Path, names: tuple[str, str], *scales: torch.Tensor) -> Path:
    """A copy of a checkpoint whose layers say what their caches' numbers stand for."""
    tensors = load_file(source / FILE)
    for layer in range(2):
        prefix = f"model.layers.{layer}.self_attn."
        tensors |= {prefix + name: scale.clone() for name, scale in zip(names, scales, strict=True)}
    save_file(tensors, target / FILE, {"format": "pt"})
    config = json.loads((source / "config.json").read_text("utf-8"))
    scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "config_groups": {},
        "kv_cache_scheme": scheme,
    }
    (target / "config.json").write_text(json.dumps(config), "utf-8")
    return target


@pytest.mark.parametrize(
    "names", [("k_scale", "v_scale"), ("k_proj.k_scale", "v_proj.v_scale")], ids=str
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_checkpoint_may_bring_scales(
    names: tuple[str, str], shape: tuple[int, ...], tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    scales = torch.full(shape, 0.25), torch.full(shape, 2.0)
    directory = with_scales(tiny_checkpoint("llama"), tmp_path, names, *scales)
    runner = make_runner(directory, **FP8)
    assert [(cache.key_scale, cache.value_scale) for cache in runner._layer_caches] == [
        (0.25, 2.0)
    ] * 2
    (found,) = logits_in_chunks(runner, [random_prompt(40)], 10)
    plain = make_runner(directory)
    assert plain._layer_caches[0].key_scale == 1.0, "a cache in the model's own type has none"
    (expected,) = logits_in_chunks(plain, [random_prompt(40)], 10)
    assert cosine_similarity(found, expected, dim=-1).min() > 0.99


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (torch.tensor(0.0), "k_scale must be a number above 0, got 0.0"),
        (torch.tensor(torch.inf), "k_scale must be a number above 0, got inf"),
        (torch.ones(2), "k_scale"),
    ],
)
def test_scales_that_are_none_are_refused(
    scale: torch.Tensor, message: str, tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    directory = with_scales(
        tiny_checkpoint("llama"), tmp_path, ("k_scale", "v_scale"), scale, torch.tensor(1.0)
    )
    with pytest.raises(CorruptCheckpoint, match=message):
        make_runner(directory, **FP8)


def test_numbers_past_the_largest_become_the_largest() -> None:
    empty = torch.zeros(2, 4, 1, 3).to(torch.float8_e4m3fn)
    cache = reference.LayerCache(empty, empty.clone(), key_scale=2.0)
    key = torch.tensor([[[1e6, -torch.inf, torch.nan]]])
    reference.write_kv(key, key, cache, torch.tensor([5]))
    assert cache.key.float()[1, 1, 0, :2].tolist() == [448.0, -448.0]
    assert cache.key.float()[1, 1, 0, 2].isnan(), "or a row's fault would go unseen"
    assert not cache.key.float()[0].any()


@pytest.mark.parametrize("capability", [(8, 0), (8, 6)])
def test_a_gpu_without_eight_bit_floats_says_so(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    gpu = torch.device("cuda")
    version = f"{capability[0]}.{capability[1]}"
    with pytest.raises(ValueError, match=f"must be auto on a GPU of compute capability {version}"):
        choose_cache_dtype("fp8_e4m3", torch.bfloat16, gpu)
    assert choose_cache_dtype("auto", torch.bfloat16, gpu) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert choose_cache_dtype("fp8_e4m3", torch.bfloat16, gpu) == torch.float8_e4m3fn


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="kv_cache_dtype must be one of auto, fp8_e4m3, got 'fp4'"):
        EngineConfig(device="cpu", kv_cache_dtype="fp4")


def test_a_model_that_transformers_runs_has_its_own_type(tmp_path: Path) -> None:
    directory = save(tmp_path, "stablelm", SMALL)
    options: dict[str, Any] = FP8
    with pytest.raises(UnsupportedModel, match="kv_cache_dtype must be auto"):
        make_runner(directory, **options)


MEASURED = MeasuredMemory(
    total_bytes=100 * GIB, free_bytes=60 * GIB, step_bytes=7 * GIB, graph_bytes=GIB
)
BLOCK = BlockShape(  # of 8 MiB
    num_layers=32, num_kv_heads=8, head_dim=128, block_size=64, dtype=torch.bfloat16
)


def num_blocks(directory: Path, measured: MeasuredMemory | None, **options: Any) -> int:
    config = EngineConfig(model=str(directory), device="cpu", max_num_seqs=4096, **options)
    return plan_num_blocks(config, read_architecture(directory), BLOCK, measured)


def test_the_cache_takes_what_steps_and_graphs_leave(tiny_checkpoint: Checkpoints) -> None:
    directory = tiny_checkpoint("llama")
    assert MEASURED.cache_bytes == 50 * GIB, "60, less 7, less 1, less 2 % of 100"
    assert num_blocks(directory, MEASURED) == 50 * 1024 // 8
    assert num_blocks(directory, MEASURED, kv_cache_gb=1) == 128, "the user may want less"
    assert num_blocks(directory, MEASURED, max_model_len=64) == 4097, "rows can use no more"


def test_more_than_there_is_is_refused(tiny_checkpoint: Checkpoints) -> None:
    directory = tiny_checkpoint("llama")
    with pytest.raises(ValueError, match=r"must be at most 50\.00 on cpu") as caught:
        num_blocks(directory, MEASURED, kv_cache_gb=51)
    assert "60.00 GiB free, less 7.00 for a step, 1.00 for CUDA graphs" in str(caught.value)


def test_no_room_says_what_to_lower(tiny_checkpoint: Checkpoints) -> None:
    full = replace(MEASURED, free_bytes=10 * GIB)
    with pytest.raises(
        ValueError, match=r"10\.00 GiB free.*lower max_num_batched_tokens or max_num"
    ):
        num_blocks(tiny_checkpoint("llama"), full)
    with pytest.raises(ValueError, match="kv_cache_gb must hold at least 3 blocks of 8388608"):
        num_blocks(tiny_checkpoint("llama"), MEASURED, kv_cache_gb=0.015)
