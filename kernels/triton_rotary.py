"""From a layer's fused projection to queries and cache, in one pass: norm, rotate, write.

    qkv  [ q0 q1 q2 q3 | k0 k1 | v0 v1 ]   heads of one token
           norm, rotate  norm,
                         rotate
           -> query      -> cache -> cache

Bytes per token: 2 * (heads + 2 * kv_heads) * head_dim * itemsize (read, and written once), and a
row of the rotary table. Operations: about 10 per number. Bound by memory; what it saves is three
launches and two trips through memory.
"""

import torch
import triton
import triton.language as tl

from .reference import FP8_LARGEST, HeadNorm, LayerCache
from .triton_attention import block_stride_of, contiguous
from .triton_launch import launch, power_of_2_from

_NUMBERS_PER_PROGRAM = 4096


@triton.jit
def _rotate_kernel(
    qkv,
    positions,
    table,
    query_weight,
    key_weight,
    slots,
    query,
    key_cache,
    value_cache,
    block_stride,
    eps,
    key_unit,
    value_unit,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    HAS_NORM: tl.constexpr,
    FP8_LARGEST: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
):
    """One program: BLOCK_HEADS heads of one token. Units are the reciprocals of fp8 scales."""
    HALF: tl.constexpr = HEAD_DIM // 2
    token = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)
    pairs = tl.arange(0, BLOCK_HALF)
    is_pair = pairs < HALF
    is_number = (heads < HEADS + 2 * KV_HEADS)[:, None] & is_pair[None, :]
    is_query = (heads < HEADS)[:, None]
    is_value = (heads >= HEADS + KV_HEADS)[:, None]

    lane = heads[:, None] * HEAD_DIM + pairs[None, :]
    source = qkv + token * ((HEADS + 2 * KV_HEADS) * HEAD_DIM) + lane
    first = tl.load(source, mask=is_number, other=0.0)
    second = tl.load(source + HALF, mask=is_number, other=0.0)
    dtype = first.dtype
    first = first.to(tl.float32)
    second = second.to(tl.float32)
    if HAS_NORM:
        square = tl.sum(first * first + second * second, 1) / HEAD_DIM
        unit = tl.rsqrt(square + eps)[:, None]
        weight = query_weight + pairs
        first_query = tl.load(weight, mask=is_pair, other=0.0).to(tl.float32)[None, :]
        second_query = tl.load(weight + HALF, mask=is_pair, other=0.0).to(tl.float32)[None, :]
        weight = key_weight + pairs
        first_key = tl.load(weight, mask=is_pair, other=0.0).to(tl.float32)[None, :]
        second_key = tl.load(weight + HALF, mask=is_pair, other=0.0).to(tl.float32)[None, :]
        first_normed = first * unit * tl.where(is_query, first_query, first_key)
        second_normed = second * unit * tl.where(is_query, second_query, second_key)
        # The specification rounds between norm and rotation.
        first = tl.where(is_value, first, first_normed.to(dtype).to(tl.float32))
        second = tl.where(is_value, second, second_normed.to(dtype).to(tl.float32))

    angle = table + tl.load(positions + token) * HEAD_DIM + pairs
    cosine = tl.load(angle, mask=is_pair, other=0.0)[None, :]
    sine = tl.load(angle + HALF, mask=is_pair, other=0.0)[None, :]
    turned_first = tl.where(is_value, first, first * cosine - second * sine)
    turned_second = tl.where(is_value, second, second * cosine + first * sine)

    target = query + token * (HEADS * HEAD_DIM) + lane
    tl.store(target, turned_first.to(dtype), mask=is_number & is_query)
    tl.store(target + HALF, turned_second.to(dtype), mask=is_number & is_query)

    slot = tl.load(slots + token)
    is_cached = is_number & (slot >= 0)
    at = slot // BLOCK_SIZE * block_stride + slot % BLOCK_SIZE * (KV_HEADS * HEAD_DIM) + lane
    # The cache holds what the model's own type holds, shortened again where it is smaller.
    cached_first = turned_first.to(dtype).to(tl.float32)
    cached_second = turned_second.to(dtype).to(tl.float32)
    if key_cache.dtype.element_ty != dtype:
        unit = tl.where(is_value, value_unit, key_unit)
        # What is no number stays none: clamping it away would hide a fault of its row.
        cached_first = tl.clamp(
            cached_first * unit, -FP8_LARGEST, FP8_LARGEST, propagate_nan=tl.PropagateNan.ALL
        )
        cached_second = tl.clamp(
            cached_second * unit, -FP8_LARGEST, FP8_LARGEST, propagate_nan=tl.PropagateNan.ALL
        )
    narrow_first = cached_first.to(key_cache.dtype.element_ty)
    narrow_second = cached_second.to(key_cache.dtype.element_ty)
    is_key = is_cached & (is_query == 0) & (is_value == 0)
    target = key_cache + at - HEADS * HEAD_DIM
    tl.store(target, narrow_first, mask=is_key)
    tl.store(target + HALF, narrow_second, mask=is_key)
    target = value_cache + at - (HEADS + KV_HEADS) * HEAD_DIM
    tl.store(target, narrow_first, mask=is_cached & is_value)
    tl.store(target + HALF, narrow_second, mask=is_cached & is_value)


def rotate_and_cache(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    table: torch.Tensor,
    cache: LayerCache,
    slots: torch.Tensor,
    head_norm: HeadNorm | None = None,
) -> torch.Tensor:
    """Compute `reference.rotate_and_cache`; norms are over single heads.

    Args:
        qkv: [T, (H + 2 KV) * D], contiguous; `positions` int64 [T] and `slots` int64 [T].
        positions: places in `table`.
        table: float32 [positions, D], see `reference.rotary_table`.
        cache: in qkv's type, or in float8_e4m3fn, which takes numbers over its scales.
        slots: where keys and values go; -1 is nowhere.
        head_norm: weights [D], or None.

    Raises:
        ValueError: tensors are not laid out as the kernel reads them, or norms span several heads.
    """
    num_tokens = qkv.shape[0]
    block_size, kv_heads, head_dim = cache.key.shape[1:]
    if head_norm is not None and head_norm.query.shape[0] != head_dim:
        raise ValueError(
            f"norms must be over single heads of {head_dim}, got {head_norm.query.shape[0]} weights"
        )
    heads = qkv.shape[1] // head_dim - 2 * kv_heads
    query = qkv.new_empty((num_tokens, heads, head_dim))
    block_half = power_of_2_from(head_dim // 2)
    most = max(1, _NUMBERS_PER_PROGRAM // (2 * block_half))
    block_heads = min(most, power_of_2_from(heads + 2 * kv_heads))
    grid = (num_tokens, -(-(heads + 2 * kv_heads) // block_heads))
    launch(
        _rotate_kernel,
        grid,
        contiguous("qkv", qkv),
        positions,
        contiguous("table", table),
        head_norm.query if head_norm else table,
        head_norm.key if head_norm else table,
        slots,
        query,
        cache.key,
        cache.value,
        block_stride_of(cache),
        head_norm.eps if head_norm else 0.0,
        1.0 / cache.key_scale,
        1.0 / cache.value_scale,
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        HAS_NORM=head_norm is not None,
        FP8_LARGEST=FP8_LARGEST,
        BLOCK_HEADS=block_heads,
        BLOCK_HALF=block_half,
        num_warps=4,
    )
    return query
