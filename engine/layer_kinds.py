"""What config.json says of single layers: what they see, how they turn, which experts they have.

Knows the names of `transformers`' configurations. Refuses to know files and whole models.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .models.families import Family
from .rotary import Rope, read_rope


class UnsupportedOption(ValueError):
    """An option of config.json is unknown, impossible, or something the engine does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The mixture of experts in place of a layer's MLP.

    `normalized` says whether the weights of the experts chosen for a token sum to 1.
    """

    num_experts: int
    num_experts_per_token: int
    intermediate_size: int
    normalized: bool


def layer_types(config: Any) -> list[str]:
    """Return "sliding_attention" or "full_attention" for each layer.

    Raises:
        UnsupportedOption: there are others, or too few.
    """
    default = ["sliding_attention"] * config.num_hidden_layers  # windowed if there is a window
    kinds = getattr(config, "layer_types", None) or default
    if len(kinds) != config.num_hidden_layers:
        raise UnsupportedOption(
            f"layer_types must have one entry for each of {config.num_hidden_layers} layers, "
            f"got {len(kinds)}"
        )
    unknown = set(kinds) - {"sliding_attention", "full_attention"}
    if unknown:
        raise UnsupportedOption(
            "layer_types must be sliding_attention or full_attention, "
            f"got {', '.join(sorted(unknown))}"
        )
    return kinds


def sliding_windows(config: Any, kinds: Sequence[str]) -> tuple[int | None, ...]:
    """Return how many tokens each layer sees, None for all.

    Raises:
        UnsupportedOption: it would see none.
    """
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None
    if window is not None and window < 1:
        raise UnsupportedOption(f"sliding_window must be at least 1, got {window}")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def layer_ropes(config: Any, kinds: Sequence[str], head_dim: int) -> tuple[Rope, ...]:
    """Return the rotary embedding of each layer.

    Raises:
        UnsupportedOption: one of them is not among ours.
    """
    old = {
        "rope_theta": getattr(config, "rope_theta", None) or 10_000.0,
        **(getattr(config, "rope_scaling", None) or {}),
    }
    parameters = {**old, **(getattr(config, "rope_parameters", None) or {})}
    original = getattr(config, "original_max_position_embeddings", None)
    try:
        of_kind = {
            kind: read_rope(
                parameters.get(kind) or parameters,  # Gemma 3 has one for each kind of layer
                head_dim,
                config.max_position_embeddings,
                original,
            )
            for kind in set(kinds)
        }
    except ValueError as error:
        raise UnsupportedOption(str(error)) from error
    if len({rope.rotated_dim for rope in of_kind.values()}) > 1:
        raise UnsupportedOption("partial_rotary_factor must be the same in all layers")
    return tuple(of_kind[kind] for kind in kinds)


def layer_experts(config: Any, family: Family) -> tuple[Experts | None, ...]:
    """Return each layer's experts, None where its MLP is an ordinary one.

    Raises:
        UnsupportedOption: there are fewer of them than each token is to have.
    """
    layers = range(config.num_hidden_layers)
    if family.experts is None:
        return (None,) * len(layers)
    require_sizes(config, ("num_experts", "num_experts_per_tok"))
    if hasattr(config, "moe_intermediate_size"):
        require_sizes(config, ("moe_intermediate_size", "decoder_sparse_step"))
    if config.num_experts_per_tok > config.num_experts:
        raise UnsupportedOption(
            f"num_experts_per_tok must be at most num_experts, {config.num_experts}, "
            f"got {config.num_experts_per_tok}"
        )
    experts = Experts(
        num_experts=config.num_experts,
        num_experts_per_token=config.num_experts_per_tok,
        intermediate_size=getattr(config, "moe_intermediate_size", config.intermediate_size),
        normalized=bool(getattr(config, "norm_topk_prob", True)),
    )
    dense = set(getattr(config, "mlp_only_layers", None) or ())
    every = getattr(config, "decoder_sparse_step", 1)
    return tuple(
        experts if layer not in dense and (layer + 1) % every == 0 else None for layer in layers
    )


def require_sizes(config: Any, names: Iterable[str]) -> None:
    """Check that these options are sizes.

    Raises:
        UnsupportedOption: one is no integer, or below 1.
    """
    for name in names:
        size = getattr(config, name)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UnsupportedOption(f"{name} must be an integer from 1, got {size!r}")
