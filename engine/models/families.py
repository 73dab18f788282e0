"""The model families that share our decoder: what their layers have and what they call it.

All of them name their weights alike (`loading.py`), so a family that fits is one entry here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of decoder: pre-norm, grouped-query attention, RoPE, gated SiLU."""

    name: str
    qkv_bias: bool = False
    qk_norm: bool = False


FAMILIES = {
    "LlamaForCausalLM": Family("llama"),
    "MistralForCausalLM": Family("mistral"),
    "Qwen2ForCausalLM": Family("qwen2", qkv_bias=True),
    "Qwen3ForCausalLM": Family("qwen3", qk_norm=True),
}
