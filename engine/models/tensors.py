"""The tensors of a decoder's checkpoint, by name and shape.

Knows Hugging Face's names. Refuses to know files (`weights.py`) and what becomes of the tensors
(`loading.py`).
"""

from ..architecture import ModelArchitecture
from ..layer_kinds import Experts
from .families import ExpertNames, HeadNorms

Shape = tuple[int, ...]


def embedding_name(arch: ModelArchitecture) -> str:
    """Return the name of the embedding, [vocab, hidden]."""
    return f"{arch.family.prefix}model.embed_tokens.weight"


def head_name(arch: ModelArchitecture) -> str:
    """Return the name of the head, [vocab, hidden], or a classifier's, [labels, hidden]."""
    if arch.num_labels:
        return "score.weight"
    return f"{arch.family.prefix}lm_head.weight"


def final_norm_name(arch: ModelArchitecture) -> str:
    """Return the name of the norm behind the last layer, [hidden]."""
    return f"{arch.family.prefix}model.norm.weight"


def layer_prefix(arch: ModelArchitecture, index: int) -> str:
    """Return what the names of one layer's tensors begin with."""
    return f"{arch.family.prefix}model.layers.{index}."


def tensor_shapes(arch: ModelArchitecture, experts_fused: bool) -> dict[str, Shape]:
    """Return every tensor the decoder needs.

    `experts_fused` says whether a layer's experts lie in one tensor or in one each.
    """
    shapes: dict[str, Shape] = {embedding_name(arch): (arch.vocab_size, arch.hidden_size)}
    for index, experts in enumerate(arch.experts):
        parts = _norms(arch) | _attention(arch)
        parts |= _experts(arch, experts, experts_fused) if experts else _mlp(arch)
        shapes |= {layer_prefix(arch, index) + part: shape for part, shape in parts.items()}
    shapes[final_norm_name(arch)] = (arch.hidden_size,)
    if not arch.tied:
        shapes[head_name(arch)] = (arch.num_labels or arch.vocab_size, arch.hidden_size)
    return shapes


def _norms(arch: ModelArchitecture) -> dict[str, Shape]:
    norms = arch.family.norms
    names = (norms.attention_input, norms.attention_output, norms.mlp_input, norms.mlp_output)
    return {f"{name}.weight": (arch.hidden_size,) for name in names if name}


def _attention(arch: ModelArchitecture) -> dict[str, Shape]:
    hidden = arch.hidden_size
    query, key = arch.num_heads * arch.head_dim, arch.num_kv_heads * arch.head_dim
    outputs = {"q_proj": query, "k_proj": key, "v_proj": key}
    if arch.family.fused:
        outputs = {"qkv_proj": query + 2 * key}
    shapes: dict[str, Shape] = {f"{name}.weight": (n, hidden) for name, n in outputs.items()}
    shapes["o_proj.weight"] = (hidden, query)
    if arch.qkv_bias:
        shapes |= {f"{name}.bias": (n,) for name, n in outputs.items()}
    if arch.output_bias:
        shapes["o_proj.bias"] = (hidden,)
    if arch.family.head_norms is not HeadNorms.NONE:
        each = arch.family.head_norms is HeadNorms.EACH_HEAD
        shapes["q_norm.weight"] = (arch.head_dim if each else query,)
        shapes["k_norm.weight"] = (arch.head_dim if each else key,)
    return {f"self_attn.{name}": shape for name, shape in shapes.items()}


def _mlp(arch: ModelArchitecture) -> dict[str, Shape]:
    hidden, inner = arch.hidden_size, arch.intermediate_size
    shapes = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden)}
    if arch.family.fused:
        shapes = {"gate_up_proj": (2 * inner, hidden)}
    shapes["down_proj"] = (hidden, inner)
    weights: dict[str, Shape] = {f"mlp.{name}.weight": shape for name, shape in shapes.items()}
    biases = {f"mlp.{name}.bias": shape[:1] for name, shape in shapes.items()}
    return weights | biases if arch.mlp_bias else weights


def _experts(arch: ModelArchitecture, experts: Experts, fused: bool) -> dict[str, Shape]:
    hidden, inner, count = arch.hidden_size, experts.intermediate_size, experts.num_experts
    if fused:
        return {
            "mlp.gate.weight": (count, hidden),
            "mlp.experts.gate_up_proj": (count, 2 * inner, hidden),
            "mlp.experts.down_proj": (count, hidden, inner),
        }
    names = arch.family.experts or ExpertNames()
    shapes: dict[str, Shape] = {f"{names.mixture}.gate.weight": (count, hidden)}
    for expert in range(count):
        prefix = f"{names.mixture}.experts.{expert}."
        shapes[f"{prefix}{names.gate}.weight"] = (inner, hidden)
        shapes[f"{prefix}{names.up}.weight"] = (inner, hidden)
        shapes[f"{prefix}{names.down}.weight"] = (hidden, inner)
    return shapes
