"""Every family gives the logits that transformers gives, however its tokens are cut into steps."""

import json
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from penstock.engine.architecture import UnsupportedModel, read_architecture
from penstock.engine.batch import ScheduledRow, build_step_batch
from penstock.engine.config import EngineConfig
from penstock.engine.kv_cache import GIB
from penstock.engine.runner import ModelRunner
from penstock.kernels.cpu import CpuOps
from tests.kernels.cpu_cases import required_library

from .checkpoints import LONG_ROPE, SMALL, SPARSE, TINY_MODELS, judge

Checkpoints = Callable[[str], Path]
FILE = "model.safetensors"


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
    "name",
    [
        "llama",
        "mistral",
        "qwen2-seven-per-group",
        "qwen2-head-24",
        "qwen3",
        "gemma2",
        "olmo2",
        "phi3-partial",
        "qwen3-moe",
    ],
)
def test_bits_do_not_depend_on_steps_or_company(name: str, tiny_checkpoint: Checkpoints) -> None:
    required_library()
    runner = make_runner(tiny_checkpoint(name))
    prompts = [random_prompt(300 - 31 * i, seed=i) for i in range(9)]
    (expected,) = logits_in_chunks(runner, prompts[:1], 1)
    for chunk in (7, 16, 100, 300):
        for company in (1, 2, 9):
            found, *_ = logits_in_chunks(runner, prompts[:company], chunk)
            last = [min(end, 300) - 1 for end in range(chunk, 300 + chunk, chunk)]
            assert torch.equal(found, expected[last])


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        "qwen2",
        "qwen3",
        "qwen2-head-24",
        "qwen3-head-24",
        "gemma2",
        "gemma3",
        "olmo2",
        "phi3-partial",
        "llama-yarn",
        "mixtral-all-chosen",
    ],
)
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
    required_library()
    runner = make_runner(tiny_checkpoint(name), num_threads=2)
    assert type(runner._decoder.ops) is CpuOps
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("name", "head_dim"), [("qwen2-head-24", 32), ("qwen2-head-80", 80)])
def test_the_cache_is_counted_with_its_padding(
    name: str, head_dim: int, tiny_checkpoint: Checkpoints
) -> None:
    required_library()
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


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_weight_is_counted(name: str, tiny_checkpoint: Checkpoints) -> None:
    directory = tiny_checkpoint(name)
    with safe_open(directory / FILE, framework="pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (no mapping)
    of_text = {key: shape for key, shape in shapes.items() if "model.layers" in key}
    matrices = sum(prod(shape) for shape in of_text.values() if len(shape) > 1)
    tied = not any("lm_head" in key for key in shapes)
    expected = matrices + (1 if tied else 2) * 263 * read_architecture(directory).hidden_size
    assert read_architecture(directory).num_parameters == expected


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe-some-layers"])
def test_experts_may_lie_in_one_tensor(
    name: str, tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    """`transformers` holds them so in memory, and some tools save what they find there."""
    directory, prompt = tiny_checkpoint(name), random_prompt(20)
    tensors = judge(directory).state_dict()
    assert any(key.endswith("experts.gate_up_proj") for key in tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / FILE)
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    (expected,) = logits_in_chunks(make_runner(directory), [prompt], 7)
    (found,) = logits_in_chunks(make_runner(tmp_path), [prompt], 7)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["llama-tied", "gemma3"])
def test_a_model_may_be_saved_without_its_head(
    name: str, tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    """Embedding models are: the names of their tensors lack the "model." in front."""
    directory, prompt = tiny_checkpoint(name), random_prompt(20)
    tensors = load_file(directory / FILE)
    assert all(key.startswith("model.") for key in tensors)
    save_file({key.removeprefix("model."): t for key, t in tensors.items()}, tmp_path / FILE)
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    (expected,) = logits_in_chunks(make_runner(directory), [prompt], 20)
    (found,) = logits_in_chunks(make_runner(tmp_path), [prompt], 20)
    assert torch.equal(found, expected)


def test_a_context_within_the_original_one_has_the_short_frequencies(
    tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    directory = tiny_checkpoint("phi3-long")
    config = json.loads((directory / "config.json").read_text())
    config |= {"original_max_position_embeddings": 40, "rope_parameters": {**LONG_ROPE}}
    (tmp_path / FILE).write_bytes((directory / FILE).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    prompt = random_prompt(30)
    with torch.inference_mode():
        expected = judge(tmp_path)(torch.tensor([prompt])).logits[0, -1:]
    (short,) = logits_in_chunks(make_runner(tmp_path, max_model_len=40), [prompt], 30)
    torch.testing.assert_close(short, expected, atol=1e-4, rtol=1e-4)
    (long,) = logits_in_chunks(make_runner(tmp_path), [prompt], 30)
    assert (long - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["llama", "qwen3-moe", "gemma2", "olmo2"])
def test_only_wanted_rows_get_logits(name: str, tiny_checkpoint: Checkpoints) -> None:
    runner = make_runner(tiny_checkpoint(name))
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
    rope = arch.ropes[0]
    assert (rope.theta, rope.kind, rope.factor) == (500000.0, "linear", 2.0)
    assert arch.dtype == "bfloat16"


def llama_config(**changes: object) -> str:
    names = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    return json.dumps({**SMALL, **names, **changes})


def gemma3_config(**changes: object) -> str:
    names = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "head_dim": 16}
    return json.dumps({**SMALL, **names, **changes})


def gemma2_config(**changes: object) -> str:
    names = {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "head_dim": 16}
    return json.dumps({**SMALL, **names, **changes})


def moe_config(**changes: object) -> str:
    names = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **SPARSE}
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
        (llama_config(hidden_act="relu2"), "hidden_act must be one of silu.*got 'relu2'"),
        (gemma2_config(hidden_activation="gelu"), "hidden_activation must be one of.*got 'gelu'"),
        (
            llama_config(rope_parameters={"rope_type": "proportional", "rope_theta": 1e4}),
            "rope_type must be one of default, linear.*got 'proportional'",
        ),
        (
            llama_config(
                rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": None}
            ),
            "rope_type 'linear' needs a factor",
        ),
        (
            llama_config(rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.2}),
            "even number of 16 dimensions, got 0.2, which turns 3",
        ),
        (
            llama_config(rope_parameters=LONG_ROPE | {"partial_rotary_factor": 1.0}),
            "longrope needs 8 numbers in short_factor and in long_factor, got 6 and 6",
        ),
        (
            llama_config(quantization_config={"quant_method": "awq", "bits": 4}),
            "weights quantized by 'awq' are not supported",
        ),
        (gemma3_config(use_bidirectional_attention=True), "use_bidirectional_attention is not"),
        (gemma3_config(attn_logit_softcapping=50.0), "attn_logit_softcapping is not supported"),
        (gemma2_config(attn_logit_softcapping=-1.0), "attn_logit_softcapping must be above 0"),
        (gemma2_config(final_logit_softcapping=0.0), "final_logit_softcapping must be above 0"),
        (gemma3_config(layer_types=["full_attention"]), "layer_types"),
        (
            gemma3_config(layer_types=["full_attention", "linear_attention"]),
            "layer_types must be sliding_attention or full_attention, got linear_attention",
        ),
        (
            gemma3_config(
                rope_parameters={
                    "full_attention": {"rope_theta": 1e4, "partial_rotary_factor": 0.5},
                    "sliding_attention": {"rope_theta": 1e4},
                },
                layer_types=["full_attention", "sliding_attention"],
            ),
            "partial_rotary_factor must be the same in all layers",
        ),
        (moe_config(num_experts_per_tok=6), "num_experts_per_tok must be at most num_experts, 5"),
        (moe_config(num_experts=0), "num_experts must be an integer from 1, got 0"),
        (moe_config(moe_intermediate_size=0), "moe_intermediate_size must be an integer from 1"),
        (moe_config(decoder_sparse_step=0), "decoder_sparse_step must be an integer from 1"),
    ],
)
def test_what_is_unsupported_is_named(tmp_path: Path, config: str, complaint: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UnsupportedModel, match=complaint):
        read_architecture(tmp_path)
