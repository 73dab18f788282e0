"""What all attention kernels share: scores, the running softmax, and the walk to a paged key.

Knows tiles in registers. Refuses to know which rows, queries and keys they hold.

Everything is counted in powers of two, for `exp2` is one instruction and `exp` is two: scores come
multiplied by log2(e), and a log-sum-exp is a base-2 logarithm. The running softmax is that of
Milakov and Gimelshein (2018), tiled as in FlashAttention-2 (Dao 2023).
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .reference import LayerCache

_LOG2_E = math.log2(math.e)


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """How a product becomes a score: `outer * tanh(inner * x)` with a softcap, else `inner * x`.

    `inner` carries the 2 log2(e) that the tanh by `exp2` wants, or the log2(e) of the softmax.
    """

    inner: float
    outer: float

    @classmethod
    def of(cls, scale: float, softcap: float | None) -> "ScoreScale":
        """Return the factors for attention's `scale` and its softcap."""
        if softcap is None:
            return cls(scale * _LOG2_E, 1.0)
        return cls(2 * _LOG2_E * scale / softcap, softcap * _LOG2_E)


@triton.jit
def scores_of(query, keys, inner, outer, HAS_SOFTCAP: tl.constexpr):
    """Return the base-2 scores [M, N] of query [M, D] over keys [N, D]."""
    scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * inner
    if HAS_SOFTCAP:
        scores = outer * (1.0 - 2.0 / (tl.exp2(scores) + 1.0))
    return scores


@triton.jit
def absorb(scores, values, total, peak, mass):
    """Take a tile into the running softmax: scores [M, N], values [N, D], total [M, D].

    Where all scores so far are -inf the peak counts as 0, or the difference would not be a number.
    """
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    finite_peak = tl.where(new_peak == -float("inf"), 0.0, new_peak)
    weights = tl.exp2(scores - finite_peak[:, None])
    kept = tl.exp2(peak - finite_peak)
    mass = mass * kept + tl.sum(weights, 1)
    total = tl.dot(weights.to(values.dtype), values, total * kept[:, None], input_precision="ieee")
    return total, new_peak, mass


@triton.jit
def key_offsets(
    table,
    places,
    is_read,
    head,
    block_stride,
    BLOCK_SIZE: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
):
    """Return int64 offsets of the keys (and values) at `places` of the row whose table this is."""
    blocks = tl.load(table + places // BLOCK_SIZE, mask=is_read, other=0).to(tl.int64)
    inside = (places % BLOCK_SIZE) * (KV_HEADS * HEAD_DIM) + head * HEAD_DIM
    return blocks * block_stride + inside


@triton.jit
def attend(
    first,
    last,
    asked,
    positions,
    total,
    peak,
    mass,
    key,
    value,
    table,
    head,
    block_stride,
    inner,
    outer,
    BLOCK_SIZE: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    IS_MASKED: tl.constexpr,
):
    """Take the keys from `first` (a multiple of TILE) to `last` into the running softmax."""
    dims = tl.arange(0, BLOCK_DIM)
    for start in range(first, last, TILE):
        places = start + tl.arange(0, TILE)
        is_read = places < last
        offsets = key_offsets(
            table, places, is_read, head, block_stride, BLOCK_SIZE, KV_HEADS, HEAD_DIM
        )
        offsets = offsets[:, None] + dims[None, :]
        if IS_MASKED or BLOCK_DIM != HEAD_DIM:
            is_read_dim = is_read[:, None] & (dims < HEAD_DIM)[None, :]
            keys = tl.load(key + offsets, mask=is_read_dim, other=0.0).to(asked.dtype)
            values = tl.load(value + offsets, mask=is_read_dim, other=0.0).to(asked.dtype)
        else:
            keys = tl.load(key + offsets).to(asked.dtype)
            values = tl.load(value + offsets).to(asked.dtype)
        scores = scores_of(asked, keys, inner, outer, HAS_SOFTCAP)
        if IS_MASKED:
            is_seen = places[None, :] <= positions[:, None]
            if WINDOW:
                is_seen = is_seen & (places[None, :] > positions[:, None] - WINDOW)
            scores = tl.where(is_seen, scores, -float("inf"))
        total, peak, mass = absorb(scores, values, total, peak, mass)
    return total, peak, mass


def block_stride_of(cache: LayerCache) -> int:
    """Return the elements from one block to the next.

    Raises:
        ValueError: the cache is not laid out as the kernels read it.
    """
    kv_heads, head_dim = cache.key.shape[2:]
    inner = (kv_heads * head_dim, head_dim, 1)
    stride = cache.key.stride(0)
    for name, tensor in (("keys", cache.key), ("values", cache.value)):
        if tensor.stride() != (stride, *inner):
            raise ValueError(
                f"the GPU kernels read {name} as [block, block_size, kv_head, head_dim] with "
                f"strides {(stride, *inner)}, got {tensor.stride()}; use engine.kv_cache"
            )
    return stride


def group_of(num_heads: int, num_kv_heads: int) -> int:
    """Return how many query heads share a key-value head.

    Raises:
        ValueError: they do not divide evenly.
    """
    if num_heads % num_kv_heads:
        raise ValueError(
            f"query heads must be a multiple of the {num_kv_heads} key-value heads, got {num_heads}"
        )
    return num_heads // num_kv_heads


def contiguous(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor.

    Raises:
        ValueError: it is not contiguous, and kernels would read it wrongly.
    """
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous, got strides {tensor.stride()}")
    return tensor
