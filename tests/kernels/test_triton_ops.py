"""Whole models on the Triton kernels give the logits that transformers gives."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.engine import runner as runner_module
from penstock.engine.batch import ScheduledRow, build_step_batch
from penstock.engine.config import EngineConfig
from penstock.engine.runner import ModelRunner
from penstock.kernels import reference
from penstock.kernels.ops import Ops, choose_ops
from penstock.kernels.reference import HeadNorm, LayerCache
from penstock.kernels.triton_ops import TritonOps
from tests.engine.checkpoints import TINY_MODELS, judge
from tests.kernels.cases import assert_agree, attention_case

pytestmark = pytest.mark.usefixtures("poisoned")


def in_gpu_order(cache: LayerCache) -> LayerCache:
    """A cache of the same shape as the runner's, in the order that a GPU has."""
    return LayerCache(
        torch.full(cache.key.shape, torch.nan), torch.full(cache.value.shape, torch.nan)
    )


@pytest.mark.parametrize("name", ["qwen3", "qwen2-seven-per-group", "gemma2", "olmo2", "qwen3-moe"])
def test_logits_are_those_of_transformers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = TINY_MODELS[name].save(tmp_path)
    monkeypatch.setattr(runner_module, "choose_ops", lambda *_: TritonOps())
    runner = ModelRunner(
        EngineConfig(model=str(directory), dtype="float32", kv_cache_gb=0.001, num_threads=1)
    )
    runner._layer_caches = [in_gpu_order(cache) for cache in runner._layer_caches]
    prompts = [[*range(5, 45)], [*range(100, 107)]]
    steps = [[(0, 0, 32), (1, 0, 6)], [(0, 32, 33), (1, 6, 7)], [(0, 33, 40)]]
    with torch.inference_mode():
        expected = [judge(directory)(torch.tensor([prompt])).logits[0] for prompt in prompts]
    for step in steps:
        rows = [
            ScheduledRow(prompts[row][begin:end], begin, [2 + row, 4 + row, 6 + row])
            for row, begin, end in step
        ]
        logits = runner.execute(build_step_batch(rows, 16, runner.device))
        wanted = torch.stack([expected[row][end - 1] for row, _, end in step])
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)


def test_steps_mix_prompts_and_single_tokens() -> None:
    case = attention_case([(1, 40), (30, 30), (1, 300), (7, 90)], 4, 2, 16, torch.float32)
    variations: list[dict[str, Any]] = [{}, {"sliding_window": 20}, {"softcap": 2.0}]
    for options in variations:
        found = TritonOps().paged_attention(**case, **options)
        assert_agree(found, reference.paged_attention(**case, **options))


def test_norms_over_all_heads() -> None:
    qkv, positions = torch.randn(3, 8 * 16), torch.tensor([0, 3, 9])
    table = reference.rotary_table(torch.rand(8), 10)
    norm = HeadNorm(torch.randn(4 * 16), torch.randn(2 * 16), 1e-6)
    case = (qkv, positions, table)
    caches = [LayerCache(*torch.zeros(2, 2, 16, 2, 16)) for _ in range(2)]
    slots = torch.tensor([17, 18, -1])
    found = TritonOps().rotate_and_cache(*case, caches[0], slots, norm)
    assert_agree(found, reference.rotate_and_cache(*case, caches[1], slots, norm))
    assert_agree(caches[0].key, caches[1].key)


def test_nothing_to_do_is_done() -> None:
    ops: Ops = TritonOps()
    assert ops.silu_and_mul(torch.zeros(0, 8)).shape == (0, 4)
    assert ops.rms_norm(torch.zeros(0, 8), torch.ones(8), 1e-6).shape == (0, 8)


def test_a_gpu_gets_them_and_a_cpu_never_loads_triton() -> None:
    gpu = torch.device("cuda")
    assert isinstance(choose_ops(gpu, torch.bfloat16, 64, 16, 1), TritonOps)
    for head_dim in (63, 512):  # which the kernels do not take
        assert choose_ops(gpu, torch.bfloat16, head_dim, 16, 1) is reference
    script = (
        "import sys, torch; from penstock.kernels.ops import choose_ops;"
        "choose_ops(torch.device('cpu'), torch.float32, 64, 16, 1);"
        "assert not [name for name in sys.modules if 'kernels.triton' in name]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
