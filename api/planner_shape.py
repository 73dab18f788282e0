"""The sizes of a model, read from its config.json: what it weighs, and what each token touches.

Knows names and numbers of configurations, as the engine reads them. Refuses to know devices, types
of numbers and weights: nothing but the one file is looked at, and no library is loaded for it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .planner_families import FAMILIES, ModelFamily


class UnplannableModel(ValueError):
    """A configuration that is damaged, or of a model whose figures are not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """The matrices of one layer behind its attention.

    Attributes:
        expert_weights: of one expert; of all of it where there are no experts.
        router_weights: what chooses experts.
    """

    expert_weights: int
    num_experts: int = 1
    num_experts_per_token: int = 1
    router_weights: int = 0

    def touched_weights(self, num_tokens: float) -> float:
        """Return how many weights a step of so many tokens reads, if experts are chosen evenly.

        A token leaves one of E experts alone with probability 1 - k/E, n tokens with the n-th
        power of that.
        """
        missed = (1 - self.num_experts_per_token / self.num_experts) ** num_tokens
        return self.router_weights + self.expert_weights * self.num_experts * (1 - missed)

    @property
    def active_weights(self) -> int:
        """Weights that one token is multiplied with."""
        return self.router_weights + self.expert_weights * self.num_experts_per_token

    @property
    def num_weights(self) -> int:
        """All of them."""
        return self.router_weights + self.expert_weights * self.num_experts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """One decoder.

    Attributes:
        windows: how many tokens each layer sees, None for all.
        mlps: one of each layer.
        tied: whether the output head is the embedding.
        num_vector_weights: of norms and biases, which cost nothing but their room.
        dtype: what the checkpoint is in, such as "bfloat16".
    """

    name: str
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    windows: tuple[int | None, ...]
    mlps: tuple[Mlp, ...]
    tied: bool
    num_vector_weights: int
    max_position_embeddings: int
    dtype: str

    @property
    def num_layers(self) -> int:
        """Layers."""
        return len(self.windows)

    @property
    def attention_weights(self) -> int:
        """Weights of the four projections of one layer."""
        return 2 * self.hidden_size * self.head_dim * (self.num_heads + self.num_kv_heads)

    @property
    def layer_weights(self) -> int:
        """Matrices of all layers, every expert included."""
        return self.num_layers * self.attention_weights + sum(m.num_weights for m in self.mlps)

    @property
    def active_layer_weights(self) -> int:
        """Matrices of all layers that one token is multiplied with."""
        return self.num_layers * self.attention_weights + sum(m.active_weights for m in self.mlps)

    @property
    def head_weights(self) -> int:
        """The output head, or the embedding that stands for it."""
        return self.hidden_size * self.vocab_size

    @property
    def num_parameters(self) -> int:
        """Everything, each once."""
        embeddings = self.head_weights * (1 if self.tied else 2)
        return self.layer_weights + embeddings + self.num_vector_weights

    @property
    def has_experts(self) -> bool:
        """Whether any layer chooses among experts."""
        return any(mlp.num_experts > 1 for mlp in self.mlps)

    def touched_layer_weights(self, num_tokens: float) -> float:
        """Return how many of the layers' weights a step of so many tokens reads."""
        mlps = sum(mlp.touched_weights(num_tokens) for mlp in self.mlps)
        return self.num_layers * self.attention_weights + mlps

    def seen_between(self, begin: float, end: float) -> float:
        """Return how many tokens those at places `begin` to `end` attend to, all added up.

        Layers differ where some have windows; this is their average.
        """
        windows = Counter(self.windows)
        seen = (n * (_area(end, w) - _area(begin, w)) for w, n in windows.items())
        return sum(seen) / self.num_layers

    def shared_tokens(self, prefix: float) -> float:
        """Return how many tokens of a common prefix rows read in a layer, on average.

        Of layers with windows none are counted: rows soon look beyond it.
        """
        return prefix * self.windows.count(None) / self.num_layers


def _area(place: float, window: int | None) -> float:
    """Return what all tokens up to `place` attend to: each its own place, or the window."""
    if window is None or place <= window:
        return place * place / 2
    return window * window / 2 + (place - window) * window


def read_shape(config: Mapping[str, Any], name: str) -> ModelShape:
    """Read what a config.json says; of a model of images and text, its text.

    Raises:
        UnplannableModel: the family is not among ours, or a size is missing or impossible.
    """
    architecture = next(iter(config.get("architectures") or ()), "(none)")
    text = {**config, **(config.get("text_config") or {})}
    if text.get("kv_lora_rank"):
        raise UnplannableModel(
            f"{name} ({architecture}) keeps compressed keys and values (multi-head latent "
            "attention), which the engine has no kernels for; choose a model without kv_lora_rank"
        )
    family = FAMILIES.get(architecture)
    if family is None:
        known = ", ".join(key.removesuffix("ForCausalLM") for key in FAMILIES)
        raise UnplannableModel(
            f"{name} names the architecture {architecture}, whose figures are not known here; "
            f"known: {known}"
        )
    text = {**(family.defaults or {}), **{k: v for k, v in text.items() if v is not None}}
    _refuse_quantized(text, name)
    hidden, layers = _size(text, "hidden_size", name), _size(text, "num_hidden_layers", name)
    heads = _size(text, "num_attention_heads", name)
    kv_heads = _size({"num_key_value_heads": heads, **text}, "num_key_value_heads", name)
    head_dim = _size({"head_dim": hidden // heads, **text}, "head_dim", name)
    if heads % kv_heads:
        raise UnplannableModel(
            f"{name}: num_attention_heads must be a multiple of num_key_value_heads, got {heads} "
            f"and {kv_heads}"
        )
    dtype = str(text.get("dtype") or text.get("torch_dtype") or "float32")
    return ModelShape(
        name=name,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=_size(text, "vocab_size", name),
        windows=_windows(text, layers),
        mlps=_mlps(text, layers, hidden, name),
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        num_vector_weights=_vectors(family, text, layers, hidden, (heads, kv_heads, head_dim)),
        max_position_embeddings=int(text.get("max_position_embeddings", 2048)),
        dtype=dtype.removeprefix("torch."),
    )


def _refuse_quantized(text: Mapping[str, Any], name: str) -> None:
    quantization = text.get("quantization_config") or {}
    if quantization and not (
        quantization.get("kv_cache_scheme") and not quantization.get("config_groups")
    ):
        method = quantization.get("quant_method", "unknown")
        raise UnplannableModel(
            f"{name}: weights quantized by {method!r} are not supported; name the model they were "
            "made from, and --dtype for what fewer bits would give"
        )


def _size(text: Mapping[str, Any], key: str, name: str) -> int:
    value = text.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnplannableModel(f"{name}: {key} must be an integer from 1, got {value!r}")
    return value


def _windows(text: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    window = text.get("sliding_window")
    if not text.get("use_sliding_window", True) or not window:
        return (None,) * layers
    kinds = text.get("layer_types")
    if kinds:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    first_with = text.get("max_window_layers", 0) if "use_sliding_window" in text else 0
    every = text.get("sliding_window_pattern")  # each such layer, counted from 1, sees all
    return tuple(
        window if layer >= first_with and not (every and (layer + 1) % every == 0) else None
        for layer in range(layers)
    )


def _mlps(text: Mapping[str, Any], layers: int, hidden: int, name: str) -> tuple[Mlp, ...]:
    count = text.get("num_local_experts") or text.get("num_experts")
    if not count:
        return (Mlp(expert_weights=3 * hidden * _size(text, "intermediate_size", name)),) * layers
    inner = text.get("moe_intermediate_size") or _size(text, "intermediate_size", name)
    sparse = Mlp(
        expert_weights=3 * hidden * inner,
        num_experts=count,
        num_experts_per_token=_size(text, "num_experts_per_tok", name),
        router_weights=hidden * count,
    )
    plain, every = set(text.get("mlp_only_layers") or ()), text.get("decoder_sparse_step", 1)
    dense = Mlp(expert_weights=3 * hidden * text.get("intermediate_size", inner))
    return tuple(
        sparse if layer not in plain and (layer + 1) % every == 0 else dense
        for layer in range(layers)
    )


def _vectors(
    family: ModelFamily,
    text: Mapping[str, Any],
    layers: int,
    hidden: int,
    heads: tuple[int, int, int],
) -> int:
    """Count the weights of norms and biases."""
    num_heads, num_kv_heads, head_dim = heads
    queries, keys = num_heads * head_dim, num_kv_heads * head_dim
    each = family.layer_norms * hidden
    each += {"": 0, "each": 2 * head_dim, "all": queries + keys}[family.head_norms]
    if family.qkv_bias or text.get("attention_bias"):
        each += queries + 2 * keys
    if text.get("attention_bias"):
        each += hidden
    if text.get("mlp_bias"):
        each += 2 * text["intermediate_size"] + hidden
    return layers * each + hidden
