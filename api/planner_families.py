"""The families whose weights can be counted from config.json alone: those of the engine's decoder.

Knows what sets them apart. A test holds this table to the engine's own, which lies two wings down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """What sets an architecture apart from Llama's, as far as its weights go.

    Attributes:
        layer_norms: norms of each layer over the hidden size.
        head_norms: "each" if queries and keys have a norm of one head's size, "all" if of all
            heads' size, else "".
        qkv_bias: whether queries, keys and values always have a bias.
        defaults: what holds if config.json does not say, as `transformers` has it.
    """

    layer_norms: int = 2
    head_norms: str = ""
    qkv_bias: bool = False
    defaults: Mapping[str, Any] | None = None


_GEMMA = {"head_dim": 256, "tie_word_embeddings": True}
_GEMMA_3 = {
    **_GEMMA,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 262_208,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 131_072,
}
_QWEN_2 = {"use_sliding_window": False}
_QWEN_3_MOE = {**_QWEN_2, "head_dim": 128}

FAMILIES: Mapping[str, ModelFamily] = {
    "LlamaForCausalLM": ModelFamily(),
    "MistralForCausalLM": ModelFamily(),
    "MixtralForCausalLM": ModelFamily(),
    "Qwen2ForCausalLM": ModelFamily(qkv_bias=True, defaults=_QWEN_2),
    "Qwen3ForCausalLM": ModelFamily(head_norms="each", defaults={**_QWEN_2, "head_dim": 128}),
    "Qwen3MoeForCausalLM": ModelFamily(head_norms="each", defaults=_QWEN_3_MOE),
    "Phi3ForCausalLM": ModelFamily(),
    "Olmo2ForCausalLM": ModelFamily(head_norms="all"),
    "Olmo3ForCausalLM": ModelFamily(head_norms="all", defaults={"sliding_window_pattern": 4}),
    "GemmaForCausalLM": ModelFamily(defaults=_GEMMA),
    "Gemma2ForCausalLM": ModelFamily(4, defaults={**_GEMMA, "sliding_window_pattern": 2}),
    "Gemma3ForCausalLM": ModelFamily(4, "each", defaults=_GEMMA_3),
    "Gemma3ForConditionalGeneration": ModelFamily(4, "each", defaults=_GEMMA_3),
}
