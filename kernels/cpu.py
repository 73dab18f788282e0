"""The decoder's operations on a CPU, by the C++ kernels beside this file.

Knows how tensors are handed over: types, strides, threads. Refuses to know the arithmetic
(`cpu_*.cpp`) and how the library came to be (`native.py`).
"""

import ctypes
from typing import Self

import torch

from .cpu_projection import can_multiply, pack_projection
from .cpu_quantized import quantize_projection
from .native import cpu_library, kernel_function
from .prefix_groups import PrefixGroups
from .reference import HeadNorm, LayerCache, Projection

_LANES = 16
_MAX_HEAD_DIM = 256
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

# Argument types of the C functions: pointers, sizes that may be large, sizes, factors.
_P, _L, _I, _F = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
_SIGNATURES = {
    "rms_norm": [_P, _P, _P, _L, _I, _F, _I],
    "add_rms_norm": [_P, _P, _P, _P, _L, _I, _F, _I],
    "silu_and_mul": [_P, _P, _L, _I, _I],
    "gelu_and_mul": [_P, _P, _L, _I, _I],
    "bound": [_P, _F, _L, _I, _I],
    "rotate_and_cache": [_P] * 8 + [_F, _I, _P, _L, _I, _I, _I, _I, _L, _I],
    "paged_attention": [_P] * 7 + [_I] * 6 + [_L, _F, _I, _F, _I],
}


class CpuOps:
    """`reference`, faster. One instance serves one type, with a fixed number of threads.

    In float32 a row's results do not depend, to the last bit, on the other rows of its step nor
    on how its tokens were cut into steps. So it is in bfloat16 on processors that have AVX512_BF16
    and no AMX; elsewhere bfloat16 products are oneDNN's, which sums in an order of its own.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype, num_threads: int) -> None:
        self._library = library
        self._dtype = dtype
        self._threads = num_threads
        name = _NAMES[dtype]
        self._rms_norm = kernel_function(library, f"rms_norm_{name}", _SIGNATURES["rms_norm"])
        self._add_rms_norm = kernel_function(
            library, f"add_rms_norm_{name}", _SIGNATURES["add_rms_norm"]
        )
        self._silu_and_mul = kernel_function(
            library, f"silu_and_mul_{name}", _SIGNATURES["silu_and_mul"]
        )
        self._gelu_and_mul = kernel_function(
            library, f"gelu_and_mul_{name}", _SIGNATURES["gelu_and_mul"]
        )
        self._bound = kernel_function(library, "bound_float32", _SIGNATURES["bound"])
        self._rotate_and_cache = kernel_function(
            library, f"rotate_and_cache_{name}", _SIGNATURES["rotate_and_cache"]
        )
        self._paged_attention = kernel_function(
            library, f"paged_attention_{name}", _SIGNATURES["paged_attention"]
        )

    @classmethod
    def create(
        cls, dtype: torch.dtype, head_dim: int, block_size: int, num_threads: int
    ) -> Self | None:
        """Return the operations for this type and shape, or None where the kernels cannot serve."""
        fits = head_dim <= _MAX_HEAD_DIM and block_size % _LANES == 0
        library = cpu_library() if fits and dtype in _NAMES else None
        return cls(library, dtype, num_threads) if library else None

    @property
    def multiplies(self) -> bool:
        """Whether matrix products are our own; else they are oneDNN's, on PyTorch's threads."""
        return can_multiply(self._library, self._dtype)

    def padded_head_dim(self, head_dim: int) -> int:
        """See `reference.padded_head_dim`."""
        return -(-head_dim // _LANES) * _LANES

    def projection(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> Projection:
        """See `reference.projection`; packs the weight once."""
        return pack_projection(self._library, weight, bias, out_dtype, self._threads)

    def quantized_projection(
        self, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> Projection:
        """See `reference.quantized_projection`; quantizes and packs the weight once."""
        return quantize_projection(self._library, weight, bias, self._threads)

    @property
    def grouped_projection(self) -> None:
        """None, see `reference.grouped_projection`: every weight is packed by itself."""
        return

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """See `reference.rms_norm`."""
        _require_float32("a norm's weight", weight)
        rows, size = x.shape
        out = torch.empty_like(x)
        self._rms_norm(
            x.data_ptr(), weight.data_ptr(), out.data_ptr(), rows, size, eps, self._threads
        )
        return out

    def add_rms_norm(
        self, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See `reference.add_rms_norm`."""
        _require_float32("a norm's weight", weight)
        rows, size = x.shape
        out = torch.empty_like(x)
        self._add_rms_norm(
            x.data_ptr(),
            residual.data_ptr(),
            weight.data_ptr(),
            out.data_ptr(),
            rows,
            size,
            eps,
            self._threads,
        )
        return out

    def silu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `reference.silu_and_mul`."""
        rows, size = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty((rows, size))
        self._silu_and_mul(gate_up.data_ptr(), out.data_ptr(), rows, size, self._threads)
        return out

    def gelu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `reference.gelu_and_mul`."""
        rows, size = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty((rows, size))
        self._gelu_and_mul(gate_up.data_ptr(), out.data_ptr(), rows, size, self._threads)
        return out

    def bound(self, x: torch.Tensor, limit: float) -> torch.Tensor:
        """See `reference.bound`."""
        _require_float32("what is bound", x)
        rows, size = x.shape
        self._bound(x.data_ptr(), limit, rows, size, self._threads)
        return x

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
        block_stride = _block_stride(cache)
        block_size, num_kv_heads, head_dim = cache.key.shape[1:]
        num_tokens, num_heads = qkv.shape[0], qkv.shape[1] // head_dim - 2 * num_kv_heads
        if head_norm:
            _require_float32("a norm's weight", head_norm.query)
            _require_float32("a norm's weight", head_norm.key)
        query = qkv.new_empty((num_tokens, num_heads, head_dim))
        self._rotate_and_cache(
            qkv.data_ptr(),
            positions.data_ptr(),
            table.data_ptr(),
            cache.key.data_ptr(),
            cache.value.data_ptr(),
            slots.data_ptr(),
            head_norm.query.data_ptr() if head_norm else None,
            head_norm.key.data_ptr() if head_norm else None,
            head_norm.eps if head_norm else 0.0,
            head_norm.query.shape[0] != head_dim if head_norm else False,
            query.data_ptr(),
            num_tokens,
            num_heads,
            num_kv_heads,
            head_dim,
            block_size,
            block_stride,
            self._threads,
        )
        return query

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
        """See `reference.paged_attention`; the hint of groups is not taken."""
        block_stride = _block_stride(cache)
        block_size, num_kv_heads, head_dim = cache.key.shape[1:]
        if query.shape[1] % num_kv_heads:
            raise ValueError(
                f"query heads must be a multiple of the {num_kv_heads} key-value heads, "
                f"got {query.shape[1]}"
            )
        out = torch.empty_like(query)
        self._paged_attention(
            query.data_ptr(),
            cache.key.data_ptr(),
            cache.value.data_ptr(),
            query_start.data_ptr(),
            context_lens.data_ptr(),
            block_tables.data_ptr(),
            out.data_ptr(),
            context_lens.shape[0],
            block_tables.shape[1],
            query.shape[1],
            num_kv_heads,
            head_dim,
            block_size,
            block_stride,
            scale,
            sliding_window or 0,
            softcap or 0.0,
            self._threads,
        )
        return out


def _require_float32(what: str, tensor: torch.Tensor) -> None:
    if tensor.dtype is not torch.float32:
        raise ValueError(f"{what} must be float32, got {tensor.dtype}")


def _block_stride(cache: LayerCache) -> int:
    """Return elements from block to block, having checked that the cache lies as the kernels read.

    Raises:
        ValueError: keys are not [block, head, dim, token], or values not [block, head, token, dim];
            or heads are not padded.
    """
    block_size, _, head_dim = cache.key.shape[1:]
    if head_dim % _LANES:
        raise ValueError(f"head_dim must be a multiple of {_LANES} in the cache, got {head_dim}")
    per_head = block_size * head_dim
    block_stride = cache.key.stride(0)
    if cache.key.stride() != (block_stride, 1, per_head, block_size) or cache.value.stride() != (
        block_stride,
        head_dim,
        per_head,
        1,
    ):
        raise ValueError(
            "the CPU kernels read keys as [block, head, dim, token] and values as [block, head, "
            f"token, dim], got strides {cache.key.stride()} and {cache.value.stride()}"
        )
    return block_stride
