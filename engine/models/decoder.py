"""The decoder all our families share, with fused weights: token ids in, logits out.

    ┬ norm ─ qkv ─ rotate, cache ─ attention ─ output ─ norm ─ + ┬ norm ─ mlp ─ norm ─ +
    └──────────────────────── residual ────────────────────────┘ └────── residual ─────┘

A family has two or four of these norms. Knows the order of operations. Refuses to know how any of
them is done (`kernels/ops.py`), where the weights came from (`loading.py`) and which rows exist
(`batch.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ...kernels.ops import Ops
from ...kernels.reference import HeadNorm, LayerCache, Projection
from ..batch import StepBatch
from ..kv_cache import CacheScales
from .experts import MixtureOfExperts, Mlp


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLayer:
    """Weights of one layer, ready to use; a norm the family lacks is None.

    Attributes:
        rotary_table: float32 [positions, head_dim], see `kernels.reference.rotary_table`.
        sliding_window: how many tokens attention sees, None for all.
    """

    attention_input_norm: torch.Tensor | None
    qkv: Projection
    head_norm: HeadNorm | None
    rotary_table: torch.Tensor
    sliding_window: int | None
    cache_scales: CacheScales
    output: Projection
    attention_output_norm: torch.Tensor | None
    mlp_input_norm: torch.Tensor | None
    mlp: Mlp | MixtureOfExperts
    mlp_output_norm: torch.Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A whole model. Calling it runs one step and returns the logits that the batch wants.

    Attributes:
        embedding: [vocab, hidden].
        embedding_scale: factor on embeddings.
        attention_scale: factor on attention's scores.
        attention_softcap: what the scores stay below, None for no bound.
        head: the projection to the vocabulary.
        logit_softcap: what the logits stay below, None for no bound.
    """

    ops: Ops
    embedding: torch.Tensor
    embedding_scale: float
    layers: tuple[DecoderLayer, ...]
    final_norm: torch.Tensor
    head: Projection
    attention_scale: float
    attention_softcap: float | None
    logit_softcap: float | None
    rms_norm_eps: float

    @property
    def cache_scales(self) -> list[CacheScales]:
        """What the numbers of each layer's cache stand for, if they are eight-bit floats."""
        return [layer.cache_scales for layer in self.layers]

    def __call__(self, batch: StepBatch, caches: Sequence[LayerCache]) -> torch.Tensor:
        """Run one step: writes the step's keys and values, returns logits [L, vocab]."""
        return self.logits(self.hidden(batch, caches))

    def hidden(self, batch: StepBatch, caches: Sequence[LayerCache]) -> torch.Tensor:
        """Run one step up to the last norm: returns [L, hidden], what the head reads."""
        residual = F.embedding(batch.token_ids, self.embedding)
        if self.embedding_scale != 1.0:
            residual *= self.embedding_scale
        normed = self._norm(residual, self.layers[0].attention_input_norm)
        following_norms = [layer.attention_input_norm for layer in self.layers[1:]]
        following_norms.append(self.final_norm)
        for layer, cache, next_norm in zip(self.layers, caches, following_norms, strict=True):
            attended = self._attend(layer, cache, normed, batch)
            if layer is self.layers[-1]:  # past attention only the wanted tokens matter
                attended = attended[batch.logit_rows]
                residual = residual[batch.logit_rows]
            update = self._norm(layer.output(attended), layer.attention_output_norm)
            normed = self._add(update, residual, layer.mlp_input_norm)
            update = self._norm(layer.mlp(normed), layer.mlp_output_norm)
            normed = self._add(update, residual, next_norm)
        return normed

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits [L, vocab] for what `hidden` returned."""
        logits = self.head(hidden)
        return self.ops.bound(logits, self.logit_softcap) if self.logit_softcap else logits

    def _attend(
        self, layer: DecoderLayer, cache: LayerCache, normed: torch.Tensor, batch: StepBatch
    ) -> torch.Tensor:
        query = self.ops.rotate_and_cache(
            layer.qkv(normed),
            batch.positions,
            layer.rotary_table,
            cache,
            batch.slots,
            layer.head_norm,
        )
        attended = self.ops.paged_attention(
            query,
            cache,
            batch.query_start,
            batch.context_lens,
            batch.block_tables,
            self.attention_scale,
            layer.sliding_window,
            self.attention_softcap,
            batch.prefix_groups,
        )
        return attended.flatten(1)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return x if weight is None else self.ops.rms_norm(x, weight, self.rms_norm_eps)

    def _add(
        self, update: torch.Tensor, residual: torch.Tensor, next_norm: torch.Tensor | None
    ) -> torch.Tensor:
        """Add to the residual stream in place and return what the next matrix reads."""
        if next_norm is None:
            residual += update
            return residual
        return self.ops.add_rms_norm(update, residual, next_norm, self.rms_norm_eps)
