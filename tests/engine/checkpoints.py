"""Tiny random checkpoints of every family, made by transformers itself, so it can be the judge."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.llama import LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config

SMALL: dict[str, Any] = {
    "vocab_size": 263,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True)
class TinyModel:
    """A family's configuration, changed in the ways that one case is about."""

    config_class: type
    options: dict[str, Any] = field(default_factory=dict)

    def save(self, directory: Path, dtype: torch.dtype = torch.float32, **saving: Any) -> Path:
        """Write a checkpoint with random weights, biases and norms, and return the directory."""
        torch.manual_seed(0)
        config = self.config_class(**{**SMALL, **self.options})
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # Biases start at 0 and norms at 1: a forgotten one would go unnoticed.
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.to(dtype).save_pretrained(directory, **saving)
        return directory


TINY_MODELS = {
    "llama": TinyModel(LlamaConfig),
    "llama-tied": TinyModel(LlamaConfig, {"tie_word_embeddings": True}),
    "llama-one-kv-head": TinyModel(LlamaConfig, {"num_key_value_heads": 1}),
    "llama-every-head": TinyModel(LlamaConfig, {"num_key_value_heads": 4}),
    "llama-attention-bias": TinyModel(LlamaConfig, {"attention_bias": True}),
    "llama3-rope": TinyModel(LlamaConfig, {"rope_parameters": LLAMA3_ROPE}),
    "llama-linear-rope": TinyModel(
        LlamaConfig,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}},
    ),
    "llama-head-104": TinyModel(LlamaConfig, {"head_dim": 104, "attention_bias": True}),
    "mistral": TinyModel(MistralConfig, {"sliding_window": 24}),
    "qwen2": TinyModel(Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2-head-8": TinyModel(Qwen2Config, {"head_dim": 8}),
    "qwen2-head-24": TinyModel(Qwen2Config, {"head_dim": 24}),
    "qwen2-head-80": TinyModel(Qwen2Config, {"head_dim": 80}),
    "qwen2-seven-per-group": TinyModel(
        Qwen2Config, {"hidden_size": 112, "num_attention_heads": 7, "num_key_value_heads": 1}
    ),
    "qwen2-window-above-1": TinyModel(
        Qwen2Config, {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}
    ),
    "qwen3": TinyModel(Qwen3Config, {"head_dim": 32}),
    "qwen3-head-24": TinyModel(Qwen3Config, {"head_dim": 24}),
}


def judge(directory: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the checkpoint with transformers."""
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager"
    )
    return model.eval()
