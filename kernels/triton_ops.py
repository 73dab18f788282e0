"""The decoder's operations on a CUDA device: our Triton kernels, and cuBLAS for the products.

Knows which kernel serves which part of a step. Refuses to know how they work.

    a step's rows     one token each   -> decode kernel, behind that of shared prefixes
                      several          -> prefill kernel
                      some of both     -> both, and each leaves the other's rows alone

Nothing here reads a tensor back, so a step of single tokens can be captured in a CUDA graph.
"""

from dataclasses import dataclass

import torch

from . import reference, triton_elementwise, triton_experts, triton_rotary
from .prefix_groups import PrefixGroups
from .reference import GroupedProjection, HeadNorm, LayerCache, Projection
from .triton_cascade import cascade_attention
from .triton_decode import decode_attention
from .triton_prefill import prefill_attention


@dataclass(frozen=True, slots=True)
class TritonOps:
    """`reference`, on a GPU. In float32 it is exact too, but slow: tensor cores want less."""

    def padded_head_dim(self, head_dim: int) -> int:
        """See `reference.padded_head_dim`; the kernels take heads of any even size."""
        return head_dim

    def projection(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> Projection:
        """See `reference.projection`."""
        return reference.projection(weight, bias, out_dtype)

    def quantized_projection(
        self, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> Projection:
        """See `reference.quantized_projection`."""
        return reference.quantized_projection(weight, bias)

    def grouped_projection(self, weights: torch.Tensor) -> GroupedProjection:
        """See `reference.grouped_projection`."""
        return triton_experts.grouped_projection(weights)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """See `reference.rms_norm`."""
        return triton_elementwise.rms_norm(x.contiguous(), weight, eps)

    def add_rms_norm(
        self, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See `reference.add_rms_norm`."""
        return triton_elementwise.add_rms_norm(x.contiguous(), residual, weight, eps)

    def rotate_and_cache(
        self,
        qkv: torch.Tensor,
        positions: torch.Tensor,
        table: torch.Tensor,
        cache: LayerCache,
        slots: torch.Tensor,
        head_norm: HeadNorm | None = None,
    ) -> torch.Tensor:
        """See `reference.rotate_and_cache`."""
        if head_norm is not None and head_norm.query.shape[0] != cache.key.shape[3]:
            qkv = self._norm_across_heads(qkv, cache, head_norm)
            head_norm = None
        return triton_rotary.rotate_and_cache(
            qkv.contiguous(),
            positions,
            table,
            cache,
            slots,
            head_norm,
        )

    def paged_attention(
        self,
        query: torch.Tensor,
        cache: LayerCache,
        query_start: torch.Tensor,
        context_lens: torch.Tensor,
        block_tables: torch.Tensor,
        scale: float,
        sliding_window: int | None = None,
        softcap: float | None = None,
        groups: PrefixGroups | None = None,
    ) -> torch.Tensor:
        """See `reference.paged_attention`."""
        query = query.contiguous()
        output = torch.empty_like(query)
        tables = (query_start, context_lens, block_tables, scale)
        if groups is None or sliding_window is not None:
            decode_attention(query, cache, *tables, sliding_window, softcap, output=output)
        else:
            cascade_attention(query, cache, groups, *tables, softcap, output=output)
        if query.shape[0] > context_lens.shape[0]:  # a row has several tokens
            prefill_attention(
                query,
                cache,
                *tables,
                sliding_window,
                softcap,
                output=output,
                skip_decode=True,
            )
        return output

    def silu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `reference.silu_and_mul`."""
        return triton_elementwise.silu_and_mul(gate_up.contiguous())

    def gelu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `reference.gelu_and_mul`."""
        return triton_elementwise.gelu_and_mul(gate_up.contiguous())

    def bound(self, x: torch.Tensor, limit: float) -> torch.Tensor:
        """See `reference.bound`."""
        return reference.bound(x, limit)

    def _norm_across_heads(
        self, qkv: torch.Tensor, cache: LayerCache, norm: HeadNorm
    ) -> torch.Tensor:
        """Return qkv with norms over all query heads together, and over all key heads."""
        kv_size = cache.key.shape[2] * cache.key.shape[3]
        query, key, value = qkv.split([qkv.shape[1] - 2 * kv_size, kv_size, kv_size], dim=1)
        normed = [
            self.rms_norm(query, norm.query, norm.eps),
            self.rms_norm(key, norm.key, norm.eps),
        ]
        return torch.cat([*normed, value], dim=1)
