"""Our paged attention, where a model of `transformers` calls for attention.

Knows the functions that `transformers` lets others put in the place of its own, and what they are
given. Refuses to know models; what a layer asks for that we do not have is refused by name.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from ...kernels.ops import Ops
from ...kernels.reference import LayerCache, write_kv
from ..batch import StepBatch

IMPLEMENTATION = "penstock"
# Not every model hands its keywords on to its layers, so the step travels beside the call.
_STEP: ContextVar["Step"] = ContextVar("step")
_UNKNOWN = ("s_aux", "sinks", "position_bias")  # what changes attention in ways we do not have


class UnsupportedAttention(ValueError):
    """What a layer asks of attention that we do not have, without the model's name."""


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """How one layer attends.

    Attributes:
        head_dim: numbers per head of keys, or of values if those are more.
        sliding_window: how many tokens it sees, None for all.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    sliding_window: int | None


@dataclass(frozen=True, slots=True)
class Call:
    """One layer's call: queries [T, H, D], keys [T, KV, D] and values [T, KV, V] of all tokens."""

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float
    sliding_window: int | None
    softcap: float | None


class Step(Protocol):
    """What answers the calls of one pass through a model."""

    def attend(self, call: Call) -> torch.Tensor:
        """Return [T, H, V]."""
        ...


@dataclass(frozen=True, slots=True)
class PagedStep:
    """Answers from the cache of keys and values, which it first writes."""

    ops: Ops
    batch: StepBatch
    caches: Sequence[LayerCache]

    def attend(self, call: Call) -> torch.Tensor:
        """Return what the step's rows see in their blocks."""
        cache, batch = self.caches[call.layer], self.batch
        dtype, size = cache.key.dtype, cache.key.shape[-1]
        query, key, value = (
            F.pad(x.to(dtype), (0, size - x.shape[-1])).contiguous()
            for x in (call.query, call.key, call.value)
        )
        write_kv(key, value, cache, batch.slots)
        attended = self.ops.paged_attention(
            query,
            cache,
            batch.query_start,
            batch.context_lens,
            batch.block_tables,
            call.scale,
            call.sliding_window,
            call.softcap,
            batch.prefix_groups,
        )
        return attended[..., : call.value.shape[-1]].to(call.query.dtype)


@dataclass(frozen=True, slots=True)
class RecordingStep:
    """Answers without a cache, for one row alone, and notes how each layer attends."""

    layers: dict[int, LayerAttention] = field(default_factory=dict)

    def attend(self, call: Call) -> torch.Tensor:
        """Return attention over the row's own tokens, plainly."""
        if call.layer in self.layers:
            raise UnsupportedAttention(f"layer {call.layer} attends more than once")
        num_heads, num_kv_heads = call.query.shape[1], call.key.shape[1]
        self.layers[call.layer] = LayerAttention(
            num_heads,
            num_kv_heads,
            max(call.key.shape[-1], call.value.shape[-1]),
            call.sliding_window,
        )
        place = torch.arange(call.query.shape[0], device=call.query.device)
        hidden = place > place[:, None]
        if call.sliding_window is not None:
            hidden |= place <= place[:, None] - call.sliding_window
        group = num_heads // num_kv_heads
        key, value = (x.float().repeat_interleave(group, dim=1) for x in (call.key, call.value))
        scores = torch.einsum("qhd,khd->hqk", call.query.float(), key) * call.scale
        if call.softcap:
            scores = torch.tanh(scores / call.softcap) * call.softcap
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        return torch.einsum("hqk,khd->qhd", weights, value).to(call.query.dtype)


def register() -> None:
    """Let models of `transformers` be told to attend through us; again is harmless."""
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, _attention)


@contextmanager
def answering(step: Step) -> Iterator[None]:
    """Let this step answer what a model asks of attention, here and now."""
    token = _STEP.set(step)
    try:
        yield
    finally:
        _STEP.reset(token)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as `transformers` asks: all tensors [1, heads, T, dim]; returns [1, T, heads, dim]."""
    if attention_mask is not None:
        raise UnsupportedAttention("it adds biases of its own to the scores")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise UnsupportedAttention("it looks at tokens that are still to come")
    unknown = [name for name in _UNKNOWN if options.get(name) is not None]
    if unknown:
        raise UnsupportedAttention(f"it attends with {', '.join(unknown)}")
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise UnsupportedAttention(f"{type(module).__name__} does not say which layer it is")
    call = Call(
        layer,
        *(x[0].transpose(0, 1) for x in (query, key, value)),
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        sliding_window=sliding_window or None,
        softcap=softcap or None,
    )
    return _STEP.get().attend(call).unsqueeze(0), None
