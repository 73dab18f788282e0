"""Every family gives the logits that transformers gives, however its tokens are cut into steps."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from penstock.engine.architecture import UnsupportedModel, read_architecture
from penstock.engine.batch import ScheduledRow, build_step_batch
from penstock.engine.config import EngineConfig
from penstock.engine.kv_cache import GIB
from penstock.engine.runner import ModelRunner
from penstock.kernels.cpu import CpuOps
from penstock.kernels.native import cpu_library

from .checkpoints import SMALL, TINY_MODELS, judge

Checkpoints = Callable[[str], Path]


def make_runner(directory: Path, **options: object) -> ModelRunner:
    settings = {
        "dtype": "float32",
        "device": "cpu",
        "kv_cache_gb": 0.01,
        "num_threads": 1,
        **options,
    }
    return ModelRunner(EngineConfig(model=str(directory), **settings))  # pyright: ignore


def random_prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 263, (length,), generator=generator).tolist()


def logits_in_chunks(
    runner: ModelRunner, prompts: list[list[int]], chunk: int
) -> list[torch.Tensor]:
    """Compute all prompts side by side, `chunk` tokens of each per step; last logits of each step.

    Blocks are dealt out in an order that no row owns contiguously.
    """
    longest = max(map(len, prompts))
    blocks_per_row = -(-longest // runner.block_size)
    tables = [
        [1 + row + len(prompts) * i for i in reversed(range(blocks_per_row))]
        for row in range(len(prompts))
    ]
    found: list[list[torch.Tensor]] = [[] for _ in prompts]
    for begin in range(0, longest, chunk):
        active = [row for row, prompt in enumerate(prompts) if begin < len(prompt)]
        batch = build_step_batch(
            [
                ScheduledRow(prompts[row][begin : begin + chunk], begin, tables[row])
                for row in active
            ],
            runner.block_size,
            runner.device,
        )
        for row, logits in zip(active, runner.execute(batch), strict=True):
            found[row].append(logits)
    return [torch.stack(logits) for logits in found]


@pytest.mark.parametrize("name", TINY_MODELS)
def test_logits_are_those_of_transformers(name: str, tiny_checkpoint: Checkpoints) -> None:
    directory = tiny_checkpoint(name)
    prompts = [random_prompt(67), random_prompt(5, seed=1), random_prompt(33, seed=2)]
    model = judge(directory)
    with torch.inference_mode():
        expected = [model(torch.tensor([prompt])).logits[0] for prompt in prompts]
    runner = make_runner(directory)
    for chunk in (1, 15, 16, 17, 100):
        for prompt, wanted, found in zip(
            prompts, expected, logits_in_chunks(runner, prompts, chunk), strict=True
        ):
            last = [min(end, len(prompt)) - 1 for end in range(chunk, len(prompt) + chunk, chunk)]
            torch.testing.assert_close(found, wanted[last], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["llama", "mistral", "qwen2-seven-per-group", "qwen2-head-24", "qwen3"]
)
def test_bits_do_not_depend_on_steps_or_company(name: str, tiny_checkpoint: Checkpoints) -> None:
    if cpu_library() is None:
        pytest.skip("plain PyTorch promises tokens, not bits")
    runner = make_runner(tiny_checkpoint(name))
    prompts = [random_prompt(300 - 31 * i, seed=i) for i in range(9)]
    (expected,) = logits_in_chunks(runner, prompts[:1], 1)
    for chunk in (7, 16, 100, 300):
        for company in (1, 2, 9):
            found, *_ = logits_in_chunks(runner, prompts[:company], chunk)
            last = [min(end, 300) - 1 for end in range(chunk, 300 + chunk, chunk)]
            assert torch.equal(found, expected[last])


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "qwen2-head-24", "qwen3-head-24"])
def test_bfloat16_points_the_same_way(name: str, tiny_checkpoint: Checkpoints) -> None:
    directory = tiny_checkpoint(name)
    prompt = random_prompt(50)
    with torch.inference_mode():
        expected = judge(directory)(torch.tensor([prompt])).logits[0]
    runner = make_runner(directory, dtype="bfloat16")
    (found,) = logits_in_chunks(runner, [prompt], 1)
    assert torch.cosine_similarity(found, expected).min() > 0.999


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_head_size_has_kernels(name: str, tiny_checkpoint: Checkpoints) -> None:
    if cpu_library() is None:
        pytest.skip("no C++ compiler here")
    runner = make_runner(tiny_checkpoint(name), num_threads=2)
    assert type(runner._decoder.ops) is CpuOps
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("name", "head_dim"), [("qwen2-head-24", 32), ("qwen2-head-80", 80)])
def test_the_cache_is_counted_with_its_padding(
    name: str, head_dim: int, tiny_checkpoint: Checkpoints
) -> None:
    if cpu_library() is None:
        pytest.skip("plain PyTorch pads nothing")
    bytes_per_token = 2 * 2 * 2 * head_dim * torch.float32.itemsize  # layers, key and value, heads
    runner = make_runner(tiny_checkpoint(name), kv_cache_gb=50 * 16 * bytes_per_token / GIB)
    assert runner.num_blocks == 50
    assert runner._layer_caches[0].key.shape == (50, 16, 2, head_dim)


def test_the_cache_takes_a_quarter_of_what_is_left(
    tiny_checkpoint: Checkpoints,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    block_bytes = 2 * 2 * 2 * 16 * 16 * torch.float32.itemsize  # as above, 16 tokens
    monkeypatch.setattr("penstock.engine.kv_cache.available_bytes", lambda: 4 * 40 * block_bytes)
    with caplog.at_level("INFO", logger="penstock.engine.kv_cache"):
        runner = make_runner(tiny_checkpoint("llama"), kv_cache_gb=None)
    assert runner.num_blocks == 40
    assert caplog.messages == ["the key-value cache holds 624 tokens in 0.00 GiB"]


@pytest.mark.parametrize("block_size", [16, 32, 64])
def test_block_size_changes_nothing(block_size: int, tiny_checkpoint: Checkpoints) -> None:
    prompt = random_prompt(70)
    runner = make_runner(tiny_checkpoint("llama"), block_size=block_size)
    (found,) = logits_in_chunks(runner, [prompt], 70)
    (expected,) = logits_in_chunks(make_runner(tiny_checkpoint("llama")), [prompt], 70)
    torch.testing.assert_close(found, expected)


def test_only_wanted_rows_get_logits(tiny_checkpoint: Checkpoints) -> None:
    runner = make_runner(tiny_checkpoint("llama"))
    rows = [
        ScheduledRow(random_prompt(20), 0, [1, 2], num_logits=0),
        ScheduledRow(random_prompt(3), 0, [3]),
    ]
    both = runner.execute(build_step_batch(rows, 16, runner.device))
    alone = runner.execute(build_step_batch(rows[1:], 16, runner.device))
    torch.testing.assert_close(both, alone)
    nothing = runner.execute(build_step_batch(rows[:1], 16, runner.device))
    assert nothing.shape == (0, 263)


def test_a_row_must_fit_its_blocks() -> None:
    with pytest.raises(ValueError, match="must hold 2 blocks"):
        build_step_batch([ScheduledRow([5] * 17, 0, [1])], 16, torch.device("cpu"))
    with pytest.raises(ValueError, match="at least one token"):
        build_step_batch([ScheduledRow([], 0, [1])], 16, torch.device("cpu"))


def test_a_row_beyond_the_model_is_refused(tiny_checkpoint: Checkpoints) -> None:
    runner = make_runner(tiny_checkpoint("llama"), max_model_len=20)
    batch = build_step_batch([ScheduledRow([5] * 21, 0, [1, 2])], 16, runner.device)
    with pytest.raises(ValueError, match="must not exceed 20 tokens, got 21"):
        runner.execute(batch)


def test_eos_ids_of_both_files_count(tmp_path: Path) -> None:
    directory = TINY_MODELS["llama"].save(tmp_path)
    (directory / "generation_config.json").write_text('{"eos_token_id": [7, 2, 9]}')
    assert read_architecture(directory).eos_token_ids == (2, 7, 9)


def test_old_config_spelling_is_understood(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 500000.0,'
        '"torch_dtype": "bfloat16", "rope_scaling": {"type": "linear", "factor": 2.0}}'
    )
    arch = read_architecture(tmp_path)
    assert (arch.ropes[0].theta, arch.ropes[0].kind, arch.ropes[0].factor) == (
        500000.0,
        "linear",
        2.0,
    )
    assert arch.dtype == "bfloat16"


def llama_config(**changes: object) -> str:
    names = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    return json.dumps({**SMALL, **names, **changes})


@pytest.mark.parametrize("generation", ["[7]", "{", '{"eos_token_id": ["x"]}', "7"])
def test_a_broken_generation_config_is_named(tmp_path: Path, generation: str) -> None:
    (tmp_path / "config.json").write_text(llama_config())
    (tmp_path / "generation_config.json").write_text(generation)
    with pytest.raises(UnsupportedModel, match=r"generation_config\.json"):
        read_architecture(tmp_path)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}', "GPT2LMHeadModel"),
        (
            '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "gelu"}',
            "gelu",
        ),
        ("{", "config.json"),
        ("[]", "config.json"),
        ("3", "config.json"),
        (llama_config(num_hidden_layers=0), "num_hidden_layers must be an integer from 1, got 0"),
        (llama_config(hidden_size=-64), "hidden_size|head_dim"),
        (llama_config(vocab_size=0), "vocab_size must be an integer from 1, got 0"),
        (llama_config(num_attention_heads=0), "config.json|num_attention_heads"),
        (llama_config(num_key_value_heads=3), "multiple of num_key_value_heads, got 4 and 3"),
        (llama_config(head_dim=15), "head_dim.*15"),
        (llama_config(head_dim=-2), "head_dim must be even and at least 2.*got -2"),
        (llama_config(vocab_size="many"), "vocab_size"),
        (llama_config(rms_norm_eps="small"), "rms_norm_eps|config.json"),
        (llama_config(rope_parameters=[1]), "config.json"),
        (llama_config(rope_theta="x"), "config.json"),
        (llama_config(architectures=3), "config.json"),
        (llama_config(eos_token_id=["a"]), "config.json"),
        (llama_config(quantization_config=3), "config.json"),
        (
            llama_config(
                model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=0
            ),
            "sliding_window must be at least 1, got 0",
        ),
    ],
)
def test_what_is_unsupported_is_named(tmp_path: Path, config: str, complaint: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UnsupportedModel, match=complaint):
        read_architecture(tmp_path)
