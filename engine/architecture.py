"""The shape of one model, read from its config.json. Knows names and numbers, no tensors.

`transformers` reads the file, so that its defaults hold; both its old spelling (`rope_theta`,
`rope_scaling`, `torch_dtype`) and the one of version 5 (`rope_parameters`, `dtype`) are understood.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .models.families import FAMILIES, Family
from .rotary import ROPE_TYPES, Rope

_SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)


class UnsupportedModel(ValueError):
    """The checkpoint asks for something the engine does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """What the decoder needs to know about a checkpoint.

    Attributes:
        family: names and options of the model's kind.
        rope: rotary embedding's parameters.
        sliding_windows: one entry per layer, None where attention sees everything.
        qkv_bias, output_bias: whether the attention projections have biases.
        qk_norm: whether query and key heads are normed.
        tied: whether the output head is the embedding.
        dtype: the checkpoint's own type, such as "bfloat16".
        eos_token_ids: the tokens that end a text, config.json's and generation_config.json's.
    """

    family: Family
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    rms_norm_eps: float
    rope: Rope
    sliding_windows: tuple[int | None, ...]
    qkv_bias: bool
    output_bias: bool
    qk_norm: bool
    tied: bool
    dtype: str
    eos_token_ids: tuple[int, ...]
    max_position_embeddings: int

    @property
    def qkv_size(self) -> int:
        """Outputs of the fused query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def num_parameters(self) -> int:
        """Weights of the whole model, embeddings included, norms and biases not."""
        attention = self.hidden_size * (self.qkv_size + self.num_heads * self.head_dim)
        mlp = 3 * self.hidden_size * self.intermediate_size
        embeddings = (1 if self.tied else 2) * self.vocab_size * self.hidden_size
        return self.num_layers * (attention + mlp) + embeddings


def read_architecture(directory: Path) -> ModelArchitecture:
    """Read the architecture of the checkpoint in `directory`.

    Raises:
        UnsupportedModel: its family, activation, rotary embedding or shape is not among ours, or
            it cannot be read.
    """
    from transformers import AutoConfig  # costs seconds to import, so only where a model is read

    try:
        return _architecture(AutoConfig.from_pretrained(directory), directory)
    except UnsupportedModel:
        raise
    except Exception as error:  # a config.json may hold anything, and many readers look at it
        raise UnsupportedModel(
            f"cannot read {directory / 'config.json'}: {type(error).__name__}: {error}"
        ) from error


def _architecture(config: Any, directory: Path) -> ModelArchitecture:
    architecture = next(iter(config.architectures or []), "(none)")
    family = FAMILIES.get(architecture)
    if family is None:
        raise UnsupportedModel(
            f"{directory / 'config.json'} names the architecture {architecture}; "
            f"supported: {', '.join(sorted(FAMILIES))}"
        )
    _refuse_unknown_options(config, directory)
    _refuse_impossible_sizes(config, directory)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head_dim < 2 or head_dim % 2:
        raise UnsupportedModel(
            f"{directory}: head_dim must be even and at least 2 for rotary embeddings, "
            f"got {head_dim}"
        )
    return ModelArchitecture(
        family=family,
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        intermediate_size=config.intermediate_size,
        vocab_size=config.vocab_size,
        rms_norm_eps=float(config.rms_norm_eps),
        rope=_rope(config, head_dim, directory),
        sliding_windows=_sliding_windows(config, directory),
        qkv_bias=family.qkv_bias or bool(getattr(config, "attention_bias", False)),
        output_bias=bool(getattr(config, "attention_bias", False)),
        qk_norm=family.qk_norm,
        tied=bool(config.tie_word_embeddings),
        dtype=str(getattr(config, "dtype", None) or "float32").removeprefix("torch."),
        eos_token_ids=_eos_token_ids(config, directory),
        max_position_embeddings=config.max_position_embeddings,
    )


def _refuse_unknown_options(config: Any, directory: Path) -> None:
    if config.hidden_act != "silu":
        raise UnsupportedModel(f"{directory}: hidden_act must be silu, got {config.hidden_act!r}")
    if getattr(config, "mlp_bias", False):
        raise UnsupportedModel(f"{directory}: mlp_bias is not supported")
    if getattr(config, "quantization_config", None):
        method = dict(config.quantization_config).get("quant_method", "unknown")
        raise UnsupportedModel(f"{directory}: weights quantized by {method!r} are not supported")


def _refuse_impossible_sizes(config: Any, directory: Path) -> None:
    for name in _SIZES:
        size = getattr(config, name)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UnsupportedModel(f"{directory}: {name} must be an integer from 1, got {size!r}")
    if config.num_attention_heads % config.num_key_value_heads:
        raise UnsupportedModel(
            f"{directory}: num_attention_heads must be a multiple of num_key_value_heads, "
            f"got {config.num_attention_heads} and {config.num_key_value_heads}"
        )


def _rope(config: Any, head_dim: int, directory: Path) -> Rope:
    new = getattr(config, "rope_parameters", None)
    old = {
        "rope_theta": getattr(config, "rope_theta", None) or 10_000.0,
        **(getattr(config, "rope_scaling", None) or {}),
    }
    parameters = {**old, **(new or {})}
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    rotated = parameters.get("partial_rotary_factor", 1.0)
    if kind not in ROPE_TYPES or rotated != 1.0:
        raise UnsupportedModel(
            f"{directory}: rotary embedding {kind!r} with partial_rotary_factor {rotated} is not "
            f"supported; supported: {', '.join(ROPE_TYPES)} with 1.0"
        )
    return Rope(
        kind=kind,
        head_dim=head_dim,
        theta=float(parameters["rope_theta"]),
        factor=float(parameters.get("factor") or 1.0),
        low_freq_factor=float(parameters.get("low_freq_factor") or 1.0),
        high_freq_factor=float(parameters.get("high_freq_factor") or 4.0),
        original_max_positions=int(
            parameters.get("original_max_position_embeddings") or config.max_position_embeddings
        ),
    )


def _sliding_windows(config: Any, directory: Path) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None
    if window is not None and window < 1:
        raise UnsupportedModel(f"{directory}: sliding_window must be at least 1, got {window}")
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    if len(kinds) != config.num_hidden_layers:
        raise UnsupportedModel(
            f"{directory}: layer_types must have one entry for each of {config.num_hidden_layers} "
            f"layers, got {len(kinds)}"
        )
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _eos_token_ids(config: Any, directory: Path) -> tuple[int, ...]:
    found = list(_as_ids(config.eos_token_id))
    generation = directory / "generation_config.json"
    if generation.is_file():
        try:
            found += _as_ids(json.loads(generation.read_text("utf-8")).get("eos_token_id"))
        except (ValueError, TypeError, AttributeError) as error:
            raise UnsupportedModel(f"cannot read {generation}: {error}") from error
    return tuple(dict.fromkeys(found))


def _as_ids(value: int | Iterable[int] | None) -> list[int]:
    if value is None:
        return []
    ids = [value] if isinstance(value, int) else list(value)
    if not all(isinstance(i, int) for i in ids):
        raise TypeError(f"eos_token_id must hold token ids, got {value!r}")
    return ids
