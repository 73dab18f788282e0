"""Tiny random checkpoints of every family, made by transformers itself, so it can be the judge."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.gemma import GemmaConfig
from transformers.models.gemma2 import Gemma2Config
from transformers.models.gemma3 import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
)
from transformers.models.llama import LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.mixtral import MixtralConfig
from transformers.models.olmo2 import Olmo2Config
from transformers.models.olmo3 import Olmo3Config
from transformers.models.phi3 import Phi3Config
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config
from transformers.models.qwen3_moe import Qwen3MoeConfig

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
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 64,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7],
    "long_factor": [1.0, 1.5, 2.0, 3.0, 5.0, 8.0],
    "partial_rotary_factor": 0.75,
}
SPARSE = {"num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 48, "head_dim": 16}
GEMMA = {"head_dim": 16, "num_hidden_layers": 3, "sliding_window": 24, "query_pre_attn_scalar": 24}
SEES_IMAGES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@dataclass(frozen=True)
class TinyModel:
    """A family's configuration, changed in the ways that one case is about."""

    config_class: type
    options: dict[str, Any] = field(default_factory=dict)
    model_class: type | None = None
    noise: float = 0.05

    def save(self, directory: Path, dtype: torch.dtype = torch.float32, **saving: Any) -> Path:
        """Write a checkpoint with random weights, biases and norms, and return the directory."""
        torch.manual_seed(0)
        config = self.config_class(**{**SMALL, **self.options})
        model = (self.model_class or AutoModelForCausalLM.from_config)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # Biases start at 0 and norms at 1: a forgotten one would go unnoticed. Scores are
                # to reach the soft caps, and routers to prefer some experts.
                parameter.add_(torch.randn_like(parameter) * self.noise)
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
    "llama-mlp-bias": TinyModel(LlamaConfig, {"mlp_bias": True}),
    "llama-gelu": TinyModel(LlamaConfig, {"hidden_act": "gelu_pytorch_tanh"}),
    "llama-dynamic-rope": TinyModel(
        LlamaConfig,
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 5000.0, "factor": 2.0}},
    ),
    "llama-yarn": TinyModel(LlamaConfig, {"rope_parameters": YARN_ROPE}),
    "qwen3-yarn": TinyModel(
        Qwen3Config,
        {
            "head_dim": 32,
            "rope_parameters": {
                **YARN_ROPE,
                "mscale": 0.7,
                "mscale_all_dim": 0.4,
                "beta_fast": 8.0,
                "beta_slow": 2.0,
                "truncate": False,
            },
        },
    ),
    "mistral-yarn-factor": TinyModel(
        MistralConfig, {"rope_parameters": {**YARN_ROPE, "attention_factor": 1.3}}
    ),
    "phi3": TinyModel(Phi3Config, {"sliding_window": 24}),
    "phi3-partial": TinyModel(
        Phi3Config,
        {"rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.75}},
    ),
    "phi3-long": TinyModel(
        Phi3Config, {"rope_parameters": LONG_ROPE, "original_max_position_embeddings": 4}
    ),
    "phi3-short": TinyModel(
        Phi3Config,
        {
            "rope_parameters": LONG_ROPE,
            "original_max_position_embeddings": 128,
            "max_position_embeddings": 128,
        },
    ),
    "olmo2": TinyModel(Olmo2Config),
    "olmo2-head-12": TinyModel(Olmo2Config, {"hidden_size": 48, "tie_word_embeddings": True}),
    "olmo3": TinyModel(
        Olmo3Config,
        {
            "sliding_window": 24,
            "num_hidden_layers": 4,
            "rope_parameters": {
                "full_attention": YARN_ROPE,
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gemma": TinyModel(GemmaConfig, {"head_dim": 24}),
    "gemma2": TinyModel(
        Gemma2Config,
        {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        noise=0.3,
    ),
    "gemma2-uncapped": TinyModel(
        Gemma2Config,
        {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "gemma2-head-24": TinyModel(
        Gemma2Config, {**GEMMA, "head_dim": 24, "attn_logit_softcapping": 1.0}, noise=0.3
    ),
    "gemma3": TinyModel(Gemma3TextConfig, {**GEMMA, "layer_types": None, "num_hidden_layers": 7}),
    "gemma3-scaled": TinyModel(
        Gemma3TextConfig,
        {
            **GEMMA,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "final_logit_softcapping": 2.0,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "gemma3-head-24": TinyModel(Gemma3TextConfig, {**GEMMA, "head_dim": 24}),
    "gemma3-with-images": TinyModel(
        Gemma3Config,
        {"text_config": {**SMALL, **GEMMA}, "vision_config": SEES_IMAGES},
        model_class=Gemma3ForConditionalGeneration,
    ),
    "mixtral": TinyModel(MixtralConfig, {"num_local_experts": 4, "sliding_window": 40}, noise=0.2),
    "mixtral-all-chosen": TinyModel(MixtralConfig, {"num_local_experts": 2}),
    "qwen3-moe": TinyModel(Qwen3MoeConfig, {**SPARSE, "norm_topk_prob": True}, noise=0.2),
    "qwen3-moe-some-layers": TinyModel(
        Qwen3MoeConfig,
        {**SPARSE, "num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
        noise=0.2,
    ),
}


def judge(directory: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the checkpoint with transformers."""
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager"
    )
    return model.eval()
