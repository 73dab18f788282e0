"""The decoder all our families share, with fused weights: token ids in, logits out.

    ┬ norm ─ qkv ─ rotate, cache ─ attention ─ output ─ + ┬ norm ─ gate_up ─ silu·mul ─ down ─ +
    └──────────────── residual ─────────────────────────┘ └────────────── residual ──────────┘

Knows the order of operations. Refuses to know how any of them is done (`kernels/ops.py`), where
the weights came from (`loading.py`) and which rows exist (`batch.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ...kernels.ops import Ops
from ...kernels.reference import HeadNorm, LayerCache, Projection
from ..batch import StepBatch


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Weights of one layer, ready to use."""

    input_norm: torch.Tensor
    qkv: Projection
    head_norm: HeadNorm | None
    output: Projection
    post_attention_norm: torch.Tensor
    gate_up: Projection
    down: Projection
    sliding_window: int | None


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole model. Calling it runs one step and returns the logits that the batch wants.

    Attributes:
        embedding: [vocab, hidden].
        rotary_table: float32 [positions, head_dim], see `kernels.reference.rotary_table`.
        attention_scale: factor on attention's scores.
        head: the projection to the vocabulary.
    """

    ops: Ops
    embedding: torch.Tensor
    layers: tuple[DecoderLayer, ...]
    final_norm: torch.Tensor
    head: Projection
    rotary_table: torch.Tensor
    attention_scale: float
    rms_norm_eps: float

    def __call__(self, batch: StepBatch, caches: Sequence[LayerCache]) -> torch.Tensor:
        """Run one step: writes the step's keys and values, returns logits [L, vocab]."""
        ops, eps = self.ops, self.rms_norm_eps
        residual = F.embedding(batch.token_ids, self.embedding)
        normed = ops.rms_norm(residual, self.layers[0].input_norm, eps)
        following_norms = [layer.input_norm for layer in self.layers[1:]] + [self.final_norm]
        for layer, cache, next_norm in zip(self.layers, caches, following_norms, strict=True):
            attended = self._attend(layer, cache, normed, batch)
            if next_norm is self.final_norm:  # past attention only the wanted tokens matter
                attended = attended[batch.logit_rows]
                residual = residual[batch.logit_rows]
            update = layer.output(attended)
            normed = ops.add_rms_norm(update, residual, layer.post_attention_norm, eps)
            update = layer.down(ops.silu_and_mul(layer.gate_up(normed)))
            normed = ops.add_rms_norm(update, residual, next_norm, eps)
        return self.head(normed)

    def _attend(
        self, layer: DecoderLayer, cache: LayerCache, normed: torch.Tensor, batch: StepBatch
    ) -> torch.Tensor:
        query = self.ops.rotate_and_cache(
            layer.qkv(normed),
            batch.positions,
            self.rotary_table,
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
        )
        return attended.flatten(1)
