"""The shape of one model, read from its config.json. Knows names and numbers, no tensors.

`transformers` reads the file, so that its defaults hold; both its old spelling (`rope_theta`,
`rope_scaling`, `torch_dtype`) and the one of version 5 (`rope_parameters`, `dtype`) are understood.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .gguf_config import gguf_config
from .layer_kinds import (
    Experts,
    UnsupportedOption,
    layer_experts,
    layer_ropes,
    layer_types,
    require_sizes,
    sliding_windows,
)
from .models.families import FAMILIES, Family
from .rotary import Rope
from .weights import CorruptCheckpoint

_SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)

# What config.json calls the activations we have.
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}

_GENERATOR, _CLASSIFIER = "ForCausalLM", "ForSequenceClassification"


class UnsupportedModel(ValueError):
    """The checkpoint asks for something the engine does not have."""


class UnknownFamily(UnsupportedModel):
    """The model is not of one of our families; `transformers` may know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """What the decoder needs to know about a checkpoint.

    Attributes:
        family: names and options of the model's kind.
        activation: "silu" or "gelu_tanh", of the MLP's gate.
        ropes: the rotary embedding of each layer.
        sliding_windows: one entry per layer, None where attention sees everything.
        experts: one entry per layer, None where its MLP is an ordinary one.
        attention_scale: factor on attention's scores.
        attention_softcap, logit_softcap: what scores and logits stay below, None for no bound.
        qkv_bias, output_bias, mlp_bias: whether these projections have biases.
        tied: whether the output head is the embedding.
        num_labels: outputs of a classifier's head, which stands in the place of the head over the
            vocabulary; 0 if there is none.
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
    activation: str
    ropes: tuple[Rope, ...]
    sliding_windows: tuple[int | None, ...]
    experts: tuple[Experts | None, ...]
    attention_scale: float
    attention_softcap: float | None
    logit_softcap: float | None
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    tied: bool
    num_labels: int
    dtype: str
    eos_token_ids: tuple[int, ...]
    max_position_embeddings: int

    @property
    def qkv_size(self) -> int:
        """Outputs of the fused query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def num_parameters(self) -> int:
        """Weights of the whole model, embeddings and all experts included, norms, biases not."""
        attention = self.hidden_size * (self.qkv_size + self.num_heads * self.head_dim)
        num_outputs = 0 if self.tied else self.num_labels or self.vocab_size
        embeddings = (self.vocab_size + num_outputs) * self.hidden_size
        return self.num_layers * attention + sum(map(self._mlp_size, self.experts)) + embeddings

    def _mlp_size(self, experts: Experts | None) -> int:
        if experts is None:
            return 3 * self.hidden_size * self.intermediate_size
        router = self.hidden_size * experts.num_experts
        return router + 3 * self.hidden_size * experts.intermediate_size * experts.num_experts


def read_architecture(directory: Path) -> ModelArchitecture:
    """Read the architecture of the checkpoint in `directory`, or of the GGUF file of that name.

    Raises:
        CorruptCheckpoint: the GGUF file is damaged.
        UnsupportedModel: its family, activation, rotary embedding or shape is not among ours, or
            it cannot be read.
    """
    from transformers import AutoConfig  # costs seconds to import, so only where a model is read

    try:
        is_gguf = directory.is_file()
        config = gguf_config(directory) if is_gguf else AutoConfig.from_pretrained(directory)
        return _architecture(config, directory)
    except (UnsupportedModel, CorruptCheckpoint):
        raise
    except UnsupportedOption as error:
        raise UnsupportedModel(f"{_config_file(directory)}: {error}") from error
    except Exception as error:  # a config.json may hold anything, and many readers look at it
        raise UnsupportedModel(
            f"cannot read {_config_file(directory)}: {type(error).__name__}: {error}"
        ) from error


def _config_file(directory: Path) -> Path:
    return directory if directory.is_file() else directory / "config.json"


def _architecture(config: Any, directory: Path) -> ModelArchitecture:
    architecture = next(iter(config.architectures or []), "(none)")
    family = FAMILIES.get(architecture.replace(_CLASSIFIER, _GENERATOR))
    is_classifier = architecture.endswith(_CLASSIFIER)
    if family is None:
        raise UnknownFamily(
            f"{directory / 'config.json'} names the architecture {architecture}; "
            f"supported: {', '.join(sorted(FAMILIES))}"
        )
    text = config.get_text_config()  # of a model of images and text, else `config` itself
    _refuse_unknown_options(config, text, family)
    _refuse_impossible_sizes(text)
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if head_dim < 2 or head_dim % 2:
        raise UnsupportedOption(
            f"head_dim must be even and at least 2 for rotary embeddings, got {head_dim}"
        )
    kinds = layer_types(text)
    return ModelArchitecture(
        family=family,
        num_layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_dim=head_dim,
        intermediate_size=text.intermediate_size,
        vocab_size=text.vocab_size,
        rms_norm_eps=float(text.rms_norm_eps),
        activation=_activation(text),
        ropes=layer_ropes(text, kinds, head_dim),
        sliding_windows=sliding_windows(text, kinds),
        experts=layer_experts(text, family),
        attention_scale=(_declared(text, "query_pre_attn_scalar") or head_dim) ** -0.5,
        attention_softcap=_declared(text, "attn_logit_softcapping"),
        logit_softcap=None if is_classifier else _declared(text, "final_logit_softcapping"),
        qkv_bias=family.qkv_bias or bool(getattr(text, "attention_bias", False)),
        output_bias=bool(getattr(text, "attention_bias", False)),
        mlp_bias=bool(getattr(text, "mlp_bias", False)),
        tied=bool(config.tie_word_embeddings) and not is_classifier,
        num_labels=int(config.num_labels) if is_classifier else 0,
        dtype=str(getattr(config, "dtype", None) or "float32").removeprefix("torch."),
        eos_token_ids=read_eos_token_ids(config, text, directory),
        max_position_embeddings=text.max_position_embeddings,
    )


def _refuse_unknown_options(config: Any, text: Any, family: Family) -> None:
    quantization = dict(getattr(config, "quantization_config", None) or {})
    # A calibration of the cache alone leaves weights as they are.
    is_of_cache = quantization.get("kv_cache_scheme") and not quantization.get("config_groups")
    if quantization and not is_of_cache:
        method = quantization.get("quant_method", "unknown")
        raise UnsupportedOption(f"weights quantized by {method!r} are not supported")
    if getattr(text, "use_bidirectional_attention", False):
        raise UnsupportedOption("use_bidirectional_attention is not supported, attention is causal")
    softcap = _declared(text, "attn_logit_softcapping")
    if softcap is not None and not family.attention_softcap:
        raise UnsupportedOption(
            f"attn_logit_softcapping is not supported for this architecture, got {softcap}"
        )
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        softcap = _declared(text, name)
        if softcap is not None and not softcap > 0:
            raise UnsupportedOption(f"{name} must be above 0 or null, got {softcap}")


def _refuse_impossible_sizes(config: Any) -> None:
    require_sizes(config, _SIZES)
    if config.num_attention_heads % config.num_key_value_heads:
        raise UnsupportedOption(
            "num_attention_heads must be a multiple of num_key_value_heads, "
            f"got {config.num_attention_heads} and {config.num_key_value_heads}"
        )


def _activation(config: Any) -> str:
    # Gemma 2 and 3 declare `hidden_activation` and pay no heed to `hidden_act`.
    name = "hidden_activation" if hasattr(type(config), "hidden_activation") else "hidden_act"
    activation = getattr(config, name)
    if activation not in _ACTIVATIONS:
        raise UnsupportedOption(
            f"{name} must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}"
        )
    return _ACTIVATIONS[activation]


def _declared(config: Any, name: str) -> Any:
    """Return an option if `transformers` has it for this architecture, else None."""
    return getattr(config, name) if hasattr(type(config), name) else None


def read_eos_token_ids(config: Any, text: Any, directory: Path) -> tuple[int, ...]:
    """Return the tokens that end a text: those of config.json and of generation_config.json."""
    found = _as_ids(getattr(config, "eos_token_id", None)) + _as_ids(text.eos_token_id)
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
