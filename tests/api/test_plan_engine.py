"""What the planner assumes of the engine, two wings down, is what the engine does."""

import pytest
import torch

from penstock.api import hardware, planner, planner_memory
from penstock.api.planner_models import find_shape
from penstock.engine import captured, kv_cache, memory_profile, scheduler
from penstock.engine.config import EngineConfig
from penstock.engine.runner import ModelRunner
from penstock.kernels import triton_decode
from penstock.kernels.cpu import CpuOps
from tests.kernels.cpu_cases import required_library


@pytest.mark.parametrize(
    ("device", "batch", "step_tokens"),
    [
        ("cuda", planner._GPU_BATCH, planner._GPU_STEP_TOKENS),
        ("cpu", planner._CPU_BATCH, planner._CPU_STEP_TOKENS),
    ],
)
def test_steps_are_as_large_as_the_engines(device: str, batch: int, step_tokens: int) -> None:
    config = EngineConfig(device=device)
    assert (config.max_num_seqs, config.max_num_batched_tokens) == (batch, step_tokens)
    assert config.block_size == planner_memory.BLOCK_TOKENS


def test_memory_is_shared_out_as_the_engine_does() -> None:
    assert planner_memory._SPARE_SHARE == kv_cache._GPU_SPARE
    assert planner_memory._CPU_MOST_BYTES == kv_cache._CPU_MOST_BYTES
    assert planner_memory._PROMPT_LOGITS == scheduler.MAX_PROMPT_LOGITS
    assert planner._MAX_BATCH == triton_decode._MAX_ROWS
    assert hardware.FP8_CAPABILITY == kv_cache._FP8_CAPABILITY


@pytest.mark.parametrize("rows", [64, 128, 256])
def test_graphs_are_as_many_as_the_engine_keeps(rows: int) -> None:
    engines = captured.max_graphs(rows) * memory_profile._GRAPH_BYTES
    assert planner_memory._GRAPH_BYTES * (4 + rows // 8) == pytest.approx(engines, rel=0.1)


def test_tokens_take_the_bytes_that_the_engines_cache_gives_them() -> None:
    """The demo model, on this machine."""
    runner = ModelRunner(
        EngineConfig(device="cpu", dtype="float32", kv_cache_gb=0.01, num_threads=1)
    )
    block = runner._cache.block
    shape = find_shape("penstock-demo")
    work = planner.Work(num_rows=1, prompt_tokens=8, answer_tokens=8)
    found = planner.plan("penstock-demo", "cpu", work, cpu_bytes_per_s=1e10)
    assert found.roofline.numbers.layers is hardware.NumberType.FP32
    assert found.room.token_bytes * block.block_size == block.num_bytes
    assert shape.max_position_embeddings == runner.max_model_len


@pytest.mark.parametrize("head_dim", [8, 24, 64, 80])
def test_heads_are_padded_as_on_a_cpu(head_dim: int) -> None:
    ops = CpuOps(required_library(), torch.float32, 1)
    lanes = planner._CPU_LANES
    assert ops.padded_head_dim(head_dim) == -(-head_dim // lanes) * lanes
