"""What the engine calls: one set of operations, chosen once for a device and a type.

Knows which implementations exist and what each needs. Refuses to know how they work;
`reference.py` says what they compute.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Protocol

import torch

from . import reference
from .cpu import CpuOps
from .prefix_groups import PrefixGroups
from .reference import GroupedProjection, HeadNorm, LayerCache, Projection

_SMALL_MODEL = 2**25  # weights


class Ops(Protocol):
    """The operations of a decoder, as `reference` specifies them."""

    def padded_head_dim(self, head_dim: int) -> int:
        """See `reference.padded_head_dim`."""
        ...

    def projection(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> Projection:
        """See `reference.projection`."""
        ...

    def quantized_projection(
        self, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> Projection:
        """See `reference.quantized_projection`."""
        ...

    @property
    def grouped_projection(self) -> Callable[[torch.Tensor], GroupedProjection] | None:
        """See `reference.grouped_projection`."""
        ...

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """See `reference.rms_norm`."""
        ...

    def add_rms_norm(
        self, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See `reference.add_rms_norm`."""
        ...

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
        ...

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
        ...

    def silu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `reference.silu_and_mul`."""
        ...

    def gelu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `reference.gelu_and_mul`."""
        ...

    def bound(self, x: torch.Tensor, limit: float) -> torch.Tensor:
        """See `reference.bound`."""
        ...


def choose_ops(
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    block_size: int,
    num_threads: int,
    cache_dtype: torch.dtype | None = None,
) -> Ops:
    """Return the fastest operations that can serve this device, type and shape.

    `cache_dtype` is that of keys and values, by default `dtype`. The CPU's kernels read no other:
    eight-bit floats are served slowly there, for tests and to try what they do to a model.
    """
    if device.type == "cpu" and cache_dtype in (None, dtype):
        return CpuOps.create(dtype, head_dim, block_size, num_threads) or reference
    if device.type == "cuda" and find_spec("triton") and head_dim in range(2, 257, 2):
        from .triton_ops import TritonOps  # and with it Triton, for which a CPU has no use

        return TritonOps()
    return reference


def pytorch_threads(ops: Ops, num_parameters: int, num_threads: int) -> int:
    """Return how many threads PyTorch itself should use beside these operations on a CPU.

    One, if our kernels multiply or the model is small; else all. Each of PyTorch's parallel loops
    ends in a barrier, and where other processes want the cores a barrier waits for whole time
    slices. Measured on two cores that four processes wanted, the demo model, 64 x 64 tokens: 2.0 s
    with two threads, 0.9 s with one. In plain PyTorch, 29 million weights, 16 rows: 75 to 150 ms a
    step with two, 40 to 60 ms with one; on idle cores small models lose up to half by this rule.
    """
    ours = isinstance(ops, CpuOps) and ops.multiplies
    return 1 if ours or num_parameters < _SMALL_MODEL else num_threads
