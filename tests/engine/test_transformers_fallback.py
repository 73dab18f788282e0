"""Models outside our families run with attention of ours, or are refused with the reason."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from penstock import LLM, SamplingParams
from penstock.engine.architecture import UnsupportedModel
from penstock.engine.models.attention_interface import LayerAttention, UnsupportedAttention
from penstock.engine.models.transformers_fallback import TransformersModel, refuse_windows_in_masks
from penstock.engine.weights import CorruptCheckpoint

from .checkpoints import SMALL, judge
from .test_models import logits_in_chunks, make_runner, random_prompt
from .tiny_tokenizers import byte_level

PLAIN = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
GPT2 = {"vocab_size": 263, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
WINDOWED = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
SPARSE = {"num_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
RUNNING = {
    "gpt2": ("gpt2", {**GPT2, "bos_token_id": 1, "eos_token_id": 2}),
    "gpt_neox": ("gpt_neox", PLAIN),
    "stablelm": ("stablelm", SMALL),
    "cohere2": ("cohere2", {**SMALL, **WINDOWED, "logit_scale": 0.3}),
    "granite": ("granite", {**SMALL, "attention_multiplier": 0.3, "logits_scaling": 3.0}),
    "opt": ("opt", {**PLAIN, "ffn_dim": 64, "word_embed_proj_dim": 64}),
    "starcoder2": ("starcoder2", {**SMALL, "sliding_window": 24}),
    "gpt_bigcode": ("gpt_bigcode", {**GPT2, "bos_token_id": 1, "eos_token_id": 2}),
    "olmoe": ("olmoe", {**SMALL, **SPARSE}),
    "deepseek_v3": ("deepseek_v3", {**SMALL, **LATENT}),
}


def save(directory: Path, model_type: str, options: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("name", RUNNING)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    directory = save(tmp_path, *RUNNING[name])
    prompts = [random_prompt(67), random_prompt(5, seed=1), random_prompt(33, seed=2)]
    model = judge(directory)
    with torch.inference_mode():
        expected = [model(torch.tensor([prompt])).logits[0] for prompt in prompts]
    runner = make_runner(directory)
    assert type(runner._decoder) is TransformersModel
    for chunk in (1, 15, 16, 17, 100):
        for prompt, wanted, found in zip(
            prompts, expected, logits_in_chunks(runner, prompts, chunk), strict=True
        ):
            last = [min(end, len(prompt)) - 1 for end in range(chunk, len(prompt) + chunk, chunk)]
            torch.testing.assert_close(found, wanted[last], atol=1e-4, rtol=1e-4)


def test_bfloat16_points_the_same_way(tmp_path: Path) -> None:
    directory = save(tmp_path, *RUNNING["granite"])
    prompt = random_prompt(50)
    with torch.inference_mode():
        expected = judge(directory)(torch.tensor([prompt])).logits[0]
    (found,) = logits_in_chunks(make_runner(directory, dtype="bfloat16"), [prompt], 10)
    assert torch.cosine_similarity(found, expected[9::10]).min() > 0.999


def test_a_foreign_model_writes_what_transformers_writes(tmp_path: Path) -> None:
    directory = save(tmp_path, *RUNNING["gpt_neox"])
    byte_level()._tokenizer.save_pretrained(directory)
    llm = LLM(str(directory), dtype="float32", device="cpu", kv_cache_gb=0.01, max_num_seqs=4)
    prompts = [random_prompt(40, seed=i) for i in range(6)]
    outputs = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))
    model: Any = judge(directory)
    for prompt, output in zip(prompts, outputs, strict=True):
        wanted = model.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=8, eos_token_id=None
        )
        assert output.outputs[0].token_ids == tuple(wanted[0, len(prompt) :].tolist())
    llm.engine.check()


def test_a_foreign_model_embeds_as_transformers_does(tmp_path: Path) -> None:
    directory = save(tmp_path, *RUNNING["gpt2"])
    byte_level()._tokenizer.save_pretrained(directory)
    llm = LLM(str(directory), dtype="float32", device="cpu", kv_cache_gb=0.01, max_num_seqs=4)
    prompts = [random_prompt(40, seed=i) for i in range(3)]
    model = judge(directory)
    for prompt, output in zip(prompts, llm.embed(prompts, pooling="mean"), strict=True):
        with torch.inference_mode():
            states = model.base_model(torch.tensor([prompt])).last_hidden_state[0]
        expected = torch.nn.functional.normalize(states.mean(0), dim=0)
        torch.testing.assert_close(
            torch.from_numpy(output.embedding), expected, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("model_type", "options", "complaint"),
    [
        ("bloom", {"vocab_size": 263, "hidden_size": 64, "n_layer": 2, "n_head": 4}, "max_posit"),
        ("falcon", {**PLAIN, "alibi": True}, "0 of its 2 layers attend through"),
        ("mamba", {"vocab_size": 263, "hidden_size": 64, "num_hidden_layers": 2}, "max_position"),
        ("gpt_oss", {**SMALL, "head_dim": 16, "num_local_experts": 4}, "attends with s_aux"),
        (
            "jamba",
            {**SMALL, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1},
            "1 of its 2 layers attend through",
        ),
        (
            "granite",
            {**SMALL, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            "rotary embedding is of the kind dynamic",
        ),
    ],
)
def test_what_cannot_run_in_steps_is_refused(
    tmp_path: Path, model_type: str, options: dict[str, Any], complaint: str
) -> None:
    directory = save(tmp_path, model_type, options)
    with pytest.raises(UnsupportedModel, match=complaint):
        make_runner(directory)


@pytest.mark.parametrize(
    ("options", "windows", "complaint"),
    [
        (
            {"layer_types": ["sliding_attention", "full_attention"]},
            (None, None),
            "layer 0 does not",
        ),
        ({"layer_types": ["chunked_attention"] * 2}, (None, None), "of the kind chunked_attention"),
        ({"sliding_window": 8}, (None, None), "does not hand its sliding window"),
        ({"sliding_window": 8, "use_sliding_window": False}, (None, None), None),
        ({"sliding_window": 8}, (8, None), None),
    ],
)
def test_windows_that_only_masks_know_are_refused(
    options: dict[str, Any], windows: tuple[int | None, ...], complaint: str | None
) -> None:
    layers = [LayerAttention(4, 2, 16, window) for window in windows]
    refusal = pytest.raises(UnsupportedAttention, match=complaint) if complaint else nullcontext()
    with refusal:
        refuse_windows_in_masks(SimpleNamespace(**options), layers)


@pytest.fixture
def granite(tmp_path: Path) -> Path:
    return save(tmp_path, *RUNNING["granite"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architectures": ["T5ForConditionalGeneration"]}, "no causal language model"),
        ({"architectures": None}, "no causal language model"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized weights"),
        ({"vocab_size": 0}, "vocab_size must be an integer from 1, got 0"),
        ({"num_hidden_layers": 1}, "unexpected keys, such as model.layers.1"),
        ({"num_hidden_layers": 3}, "missing keys, such as model.layers.2"),
        ({"intermediate_size": 64}, "cannot load|mismatched"),
        ({"model_type": "nobody_knows", "auto_map": {"AutoConfig": "code.Config"}}, "config.json"),
    ],
)
def test_what_does_not_fit_is_named(
    granite: Path, changes: dict[str, object], complaint: str
) -> None:
    config = json.loads((granite / "config.json").read_text())
    (granite / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(UnsupportedModel, match=complaint):
        make_runner(granite)


def test_damaged_weights_are_refused_before_transformers_sees_them(granite: Path) -> None:
    path = granite / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors is damaged"):
        make_runner(granite)


def test_attention_that_differs_is_refused(granite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be if a model did something around its attention that steps cannot see."""
    from penstock.engine.models import attention_interface

    def forgetful(key: object, value: object, cache: object, slots: object) -> None:
        """Write nothing."""

    monkeypatch.setattr(attention_interface, "write_kv", forgetful)
    with pytest.raises(UnsupportedModel, match="in steps it does not compute what it computes"):
        make_runner(granite)
