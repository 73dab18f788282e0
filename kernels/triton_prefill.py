"""Causal attention of rows with many new tokens: tiles of queries over paged keys.

    one tile: 128 query-head pairs of one key-value head         keys  0 ............ newest
    token 4  heads 0 1 2 3                                             |plain |plain |masked|
    token 5  heads 0 1 2 3  ...                                        |plain |plain |masked|

All query heads that share a key-value head are packed into the tile, so a key is read once for them
(PackGQA of FlashAttention-3; the Q blocks of "The Anatomy of a Triton Attention Kernel", 2025).
Tiles of keys that every query sees are computed without a mask. Which row a tile belongs to is
found by binary search in `query_start`, so that the host need not know the lengths.

Per row of n new tokens over c cached: bytes about 2 * c * kv_heads * head_dim * itemsize for each
128 / group tokens, nearly all from L2; operations 4 * n * (c - n / 2) * heads * head_dim. Bound by
arithmetic from about 100 tokens on.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .reference import LayerCache
from .triton_attention import (
    ScoreScale,
    attend,
    block_stride_of,
    contiguous,
    group_of,
)
from .triton_launch import launch, power_of_2_from

_MAX_GROUP = 128


@dataclass(frozen=True, slots=True)
class _Tile:
    """How many query-head pairs and keys a program takes at a time, and with how many warps."""

    queries: int
    keys: int
    num_warps: int

    @classmethod
    def of(
        cls, group: int, num_tokens: int, num_rows: int, block_dim: int, dtype: torch.dtype
    ) -> "_Tile":
        """Return small tiles for large numbers, and where rows are too short to fill large ones.

        Raises:
            ValueError: too many query heads share a key-value head.
        """
        if group > _MAX_GROUP:
            raise ValueError(f"at most {_MAX_GROUP} query heads may share a key head, got {group}")
        is_short = num_tokens * group < 64 * num_rows and group <= 64
        if block_dim > 128 or dtype is torch.float32:
            return cls(64 if group <= 64 else 128, 32, 8)
        return cls(64, 64 if block_dim <= 64 else 32, 4) if is_short else cls(128, 64, 8)


@triton.jit(do_not_specialize=["num_rows", "table_stride"])
def _prefill_kernel(
    query,
    key,
    value,
    output,
    query_start,
    context_lens,
    block_tables,
    num_rows,
    table_stride,
    block_stride,
    inner,
    outer,
    value_scale,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    SKIP_DECODE: tl.constexpr,
    TILE_QUERIES: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """One program: TILE_QUERIES // GROUP tokens of one row, one key-value head."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    TOKENS: tl.constexpr = TILE_QUERIES // GROUP
    tile = tl.program_id(0)
    head = tl.program_id(1)
    # Tiles of a row begin at query_start // TOKENS + row: room for a last tile that is not full.
    low = 0
    high = num_rows
    while low < high:
        middle = (low + high) // 2
        if tl.load(query_start + middle) // TOKENS + middle <= tile:
            low = middle + 1
        else:
            high = middle
    row = low - 1
    begin = tl.load(query_start + row)
    count = tl.load(query_start + row + 1) - begin
    first_token = (tile - (begin // TOKENS + row)) * TOKENS
    if first_token >= count:
        return
    if SKIP_DECODE and count == 1:
        return

    length = tl.load(context_lens + row)
    lane = tl.arange(0, TILE_QUERIES)
    token = first_token + lane // GROUP
    is_lane = (lane < TOKENS * GROUP) & (token < count)
    positions = length - count + token
    dims = tl.arange(0, BLOCK_DIM)
    heads = head * GROUP + lane % GROUP
    at = (begin + token).to(tl.int64) * (HEADS * HEAD_DIM) + heads * HEAD_DIM
    at = at[:, None] + dims[None, :]
    is_number = is_lane[:, None] & (dims < HEAD_DIM)[None, :]
    asked = tl.load(query + at, mask=is_number, other=0.0)

    total = tl.zeros((TILE_QUERIES, BLOCK_DIM), tl.float32)
    peak = tl.full((TILE_QUERIES,), -float("inf"), tl.float32)
    mass = tl.zeros((TILE_QUERIES,), tl.float32)
    first_position = length - count + first_token
    end = tl.minimum(first_position + TOKENS, length)
    table = block_tables + row.to(tl.int64) * table_stride
    plain_begin = 0
    plain_end = (first_position + 1) // TILE * TILE
    if WINDOW:
        begin_key = tl.maximum(first_position - WINDOW + 1, 0) // TILE * TILE
        plain_begin = tl.minimum(tl.cdiv(tl.maximum(end - WINDOW, 0), TILE) * TILE, plain_end)
        total, peak, mass = attend(
            begin_key, plain_begin, asked, positions, total, peak, mass, key, value, table, head,
            block_stride, inner, outer, BLOCK_SIZE, KV_HEADS, HEAD_DIM, WINDOW, HAS_SOFTCAP, TILE,
            BLOCK_DIM, True,
        )  # fmt: skip
    total, peak, mass = attend(
        plain_begin, plain_end, asked, positions, total, peak, mass, key, value, table, head,
        block_stride, inner, outer, BLOCK_SIZE, KV_HEADS, HEAD_DIM, WINDOW, HAS_SOFTCAP, TILE,
        BLOCK_DIM, False,
    )  # fmt: skip
    total, peak, mass = attend(
        plain_end, end, asked, positions, total, peak, mass, key, value, table, head,
        block_stride, inner, outer, BLOCK_SIZE, KV_HEADS, HEAD_DIM, WINDOW, HAS_SOFTCAP, TILE,
        BLOCK_DIM, True,
    )  # fmt: skip
    attended = (total * (value_scale / mass)[:, None]).to(output.dtype.element_ty)
    tl.store(output + at, attended, mask=is_number)


def prefill_attention(
    query: torch.Tensor,
    cache: LayerCache,
    query_start: torch.Tensor,
    context_lens: torch.Tensor,
    block_tables: torch.Tensor,
    scale: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    *,
    output: torch.Tensor | None = None,
    skip_decode: bool = False,
) -> torch.Tensor:
    """Compute `reference.paged_attention`; with `skip_decode` not for rows of a single token.

    Args:
        query: [T, H, D]; as `query_start`, `context_lens`, `block_tables`, see there.
        cache: in query's type, or in float8_e4m3fn, read as numbers times its scales.
        scale: see there; as `sliding_window` and `softcap`.
        output: where to put the result, [T, H, D]; made if None.
        skip_decode: leave rows of a single token to `decode_attention`.

    Raises:
        ValueError: tensors are not laid out as the kernel reads them.
    """
    num_tokens, heads, head_dim = query.shape
    block_size, kv_heads = cache.key.shape[1:3]
    contiguous("query", query)
    output = torch.empty_like(query) if output is None else output
    group = group_of(heads, kv_heads)
    scores = ScoreScale.of(scale * cache.key_scale, softcap)
    num_rows = context_lens.shape[0]
    block_dim = power_of_2_from(head_dim, 16)
    shape = _Tile.of(group, num_tokens, num_rows, block_dim, query.dtype)
    tokens = shape.queries // group
    launch(
        _prefill_kernel,
        (num_tokens // tokens + num_rows, kv_heads),
        query,
        cache.key,
        cache.value,
        output,
        query_start,
        context_lens,
        block_tables,
        num_rows,
        block_tables.stride(0),
        block_stride_of(cache),
        scores.inner,
        scores.outer,
        cache.value_scale,
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        WINDOW=sliding_window or 0,
        HAS_SOFTCAP=softcap is not None,
        SKIP_DECODE=skip_decode,
        TILE_QUERIES=shape.queries,
        TILE=shape.keys,
        BLOCK_DIM=block_dim,
        num_warps=shape.num_warps,
        num_stages=3,
    )
    return output
