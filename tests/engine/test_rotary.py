"""Frequencies and lengths of rotary embeddings are those of transformers, at the sizes in use."""

from typing import Any

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama import LlamaConfig

from penstock.engine.rotary import ROPE_TYPES, Rope, read_rope

# As published with Llama 3.1, Qwen2.5 (its long form), DeepSeek, gpt-oss, Phi-4-mini and others.
PUBLISHED: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 1e6,
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
    },
    "yarn with two scales": {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 40.0,
        "mscale": 1.0,
        "mscale_all_dim": 0.707,
        "original_max_position_embeddings": 4096,
    },
    "yarn with its own borders": {
        "rope_type": "yarn",
        "rope_theta": 150000.0,
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "attention_factor": 1.25,
        "original_max_position_embeddings": 4096,
    },
    "yarn without a factor to speak of": {
        "rope_type": "yarn",
        "rope_theta": 1e4,
        "factor": 1.0,
        "original_max_position_embeddings": 4096,
    },
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.75,
        "short_factor": torch.linspace(1, 2, 48).tolist(),
        "long_factor": torch.linspace(1, 60, 48).tolist(),
        "original_max_position_embeddings": 4096,
    },
    "longrope with a factor": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "factor": 16.0,
        "short_factor": [1.0] * 64,
        "long_factor": torch.linspace(1, 60, 64).tolist(),
        "original_max_position_embeddings": 4096,
    },
    "longrope with its own length": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "attention_factor": 1.1,
        "short_factor": [1.0] * 64,
        "long_factor": torch.linspace(1, 60, 64).tolist(),
        "original_max_position_embeddings": 4096,
    },
}


@pytest.mark.parametrize("num_positions", [4096, 4097, 131072])
@pytest.mark.parametrize("name", PUBLISHED)
def test_formulas_are_those_of_transformers(name: str, num_positions: int) -> None:
    parameters = PUBLISHED[name]
    config = LlamaConfig(
        hidden_size=4096,
        num_attention_heads=32,
        head_dim=128,
        max_position_embeddings=131072,
        rope_parameters=dict(parameters),
    )
    compute = ROPE_INIT_FUNCTIONS[parameters["rope_type"]]
    expected, amplitude = compute(config, torch.device("cpu"), seq_len=num_positions)
    rope = read_rope(parameters, 128, 131072)
    torch.testing.assert_close(rope.inverse_frequencies(num_positions), expected)
    assert rope.amplitude == pytest.approx(amplitude)


def test_every_kind_is_compared() -> None:
    assert {"default"} | {p["rope_type"] for p in PUBLISHED.values()} == set(ROPE_TYPES)


def test_the_length_of_the_text_before_it_was_stretched_may_stand_elsewhere() -> None:
    beside = PUBLISHED["longrope"] | {"original_max_position_embeddings": None}
    assert read_rope(beside, 128, 131072, 4096) == read_rope(PUBLISHED["longrope"], 128, 131072)


def test_old_spelling() -> None:
    old = {"type": "linear", "factor": 2, "rope_theta": 10000}
    expected = Rope(
        kind="linear",
        rotated_dim=64,
        theta=10000.0,
        max_positions=512,
        factor=2.0,
        original_max_positions=512,
    )
    assert read_rope(old, 64, 512) == expected
