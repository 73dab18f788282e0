"""The model families that share our decoder: what sets each apart, and what it calls its parts.

A family is one entry in the table below; `tensors.py` turns it into names and shapes.
"""

from dataclasses import dataclass
from enum import Enum, auto


class HeadNorms(Enum):
    """Which queries and keys are normed together before they turn."""

    NONE = auto()
    EACH_HEAD = auto()
    ALL_HEADS = auto()


@dataclass(frozen=True, slots=True)
class LayerNorms:
    """What the norms of a layer are called; None where there is none.

    ─ attention_input ─ attention ─ attention_output ─ + ─ mlp_input ─ mlp ─ mlp_output ─ + ─
    """

    attention_input: str | None
    attention_output: str | None
    mlp_input: str | None
    mlp_output: str | None


BEFORE = LayerNorms("input_layernorm", None, "post_attention_layernorm", None)
AFTER = LayerNorms(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
AROUND = LayerNorms(
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """What a mixture of experts and the three matrices of each expert are called."""

    mixture: str = "mlp"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of decoder: grouped-query attention with RoPE, a gated MLP, RMS norms.

    Attributes:
        qkv_bias: whether queries, keys and values always have a bias.
        fused: whether the checkpoint holds query, key and value as one matrix, gate and up too.
        norm_offset: what is added to the weight of every norm.
        scaled_embedding: whether embeddings are multiplied by the root of their size.
        attention_softcap: whether `attn_logit_softcapping` is heeded.
        experts: names in layers that are mixtures of experts; None if there can be no such layer.
        prefix: what the names of the decoder's tensors begin with.
        ignored: beginnings of the names of parts we do not run.
    """

    qkv_bias: bool = False
    fused: bool = False
    norms: LayerNorms = BEFORE
    norm_offset: float = 0.0
    head_norms: HeadNorms = HeadNorms.NONE
    scaled_embedding: bool = False
    attention_softcap: bool = False
    experts: ExpertNames | None = None
    prefix: str = ""
    ignored: tuple[str, ...] = ()


_EACH, _ALL = HeadNorms.EACH_HEAD, HeadNorms.ALL_HEADS
_MIXTRAL_EXPERTS = ExpertNames("block_sparse_moe", gate="w1", up="w3", down="w2")

FAMILIES = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(),
    "MixtralForCausalLM": Family(experts=_MIXTRAL_EXPERTS),
    "Qwen2ForCausalLM": Family(qkv_bias=True),
    "Qwen3ForCausalLM": Family(head_norms=_EACH),
    "Qwen3MoeForCausalLM": Family(head_norms=_EACH, experts=ExpertNames()),
    "Phi3ForCausalLM": Family(fused=True),
    "Olmo2ForCausalLM": Family(norms=AFTER, head_norms=_ALL),
    "Olmo3ForCausalLM": Family(norms=AFTER, head_norms=_ALL),
    "GemmaForCausalLM": Family(norm_offset=1.0, scaled_embedding=True),
    "Gemma2ForCausalLM": Family(
        norms=AROUND, norm_offset=1.0, scaled_embedding=True, attention_softcap=True
    ),
    "Gemma3ForCausalLM": Family(
        norms=AROUND, norm_offset=1.0, scaled_embedding=True, head_norms=_EACH
    ),
    "Gemma3ForConditionalGeneration": Family(  # its text, without the images
        norms=AROUND,
        norm_offset=1.0,
        scaled_embedding=True,
        head_norms=_EACH,
        prefix="language_model.",
        ignored=("vision_tower.", "multi_modal_projector."),
    ),
}
