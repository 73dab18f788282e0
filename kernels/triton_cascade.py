"""Attention of rows that share a prefix: its keys are read once for many rows, not once for each.

    rows 0 1 2 3 share 512 tokens      |   0.....255   |  256.....511  |   own tokens
    one tile holds all their queries   |  4 x group    |  4 x group    |   decode, row by row

The shared part is cut where decoding cuts it too, and its results lie where decoding's would: so
`triton_decode` goes on from there, and merges them without knowing. Hydragen (Juravsky 2024) and
FlashInfer's cascades do the same for one prefix; here there may be any number of groups.

Bytes for a group of n rows over p shared tokens: 2 * p * kv_heads * head_dim * itemsize, instead of
n times as many, plus 8 * heads * head_dim * p / 256 for each row. Operations: as without.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .reference import LayerCache
from .triton_attention import (
    SPLIT_TOKENS,
    ScoreScale,
    attend,
    block_stride_of,
    contiguous,
    group_of,
)
from .triton_decode import Partials, decode_attention, num_splits_of
from .triton_launch import launch, power_of_2_from


@dataclass(frozen=True, slots=True)
class PrefixGroups:
    """Which rows share which prefix.

    Attributes:
        members: int32 [N], rows, one group after the other.
        group_start: int32 [G + 1], where each group's members begin, and the end.
        prefix_lens: int32 [R], tokens that a row shares with its group: a multiple of
            `SPLIT_TOKENS`, below its context; 0 for rows of no group.
        longest_prefix: the largest of them, or more, known to the host.
    """

    members: torch.Tensor
    group_start: torch.Tensor
    prefix_lens: torch.Tensor
    longest_prefix: int


@triton.jit(do_not_specialize=["num_groups", "table_stride", "max_splits"])
def _prefix_kernel(
    query,
    key,
    value,
    partial_sums,
    partial_logs,
    members,
    group_start,
    prefix_lens,
    block_tables,
    num_groups,
    table_stride,
    block_stride,
    max_splits,
    inner,
    outer,
    value_scale,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    SPLIT: tl.constexpr,
    TILE_QUERIES: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """One program: TILE_QUERIES // GROUP rows of one group, one split, one key-value head."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    ROWS: tl.constexpr = TILE_QUERIES // GROUP
    tile = tl.program_id(0)
    split = tl.program_id(1)
    head = tl.program_id(2)
    low = 0
    high = num_groups
    while low < high:
        middle = (low + high) // 2
        if tl.load(group_start + middle) // ROWS + middle <= tile:
            low = middle + 1
        else:
            high = middle
    group = low - 1
    begin = tl.load(group_start + group)
    first_member = begin + (tile - (begin // ROWS + group)) * ROWS
    end = tl.load(group_start + group + 1)
    if first_member >= end:
        return
    any_row = tl.load(members + first_member)
    if split * SPLIT >= tl.load(prefix_lens + any_row):
        return

    lane = tl.arange(0, TILE_QUERIES)
    member = first_member + lane // GROUP
    is_lane = (lane < ROWS * GROUP) & (member < end)
    rows = tl.load(members + member, mask=is_lane, other=0).to(tl.int64)
    heads = head * GROUP + lane % GROUP
    dims = tl.arange(0, BLOCK_DIM)
    is_number = is_lane[:, None] & (dims < HEAD_DIM)[None, :]
    at = ((rows * HEADS + heads) * HEAD_DIM)[:, None] + dims[None, :]
    asked = tl.load(query + at, mask=is_number, other=0.0)

    total = tl.zeros((TILE_QUERIES, BLOCK_DIM), tl.float32)
    peak = tl.full((TILE_QUERIES,), -float("inf"), tl.float32)
    mass = tl.zeros((TILE_QUERIES,), tl.float32)
    table = block_tables + any_row.to(tl.int64) * table_stride
    total, peak, mass = attend(
        split * SPLIT, split * SPLIT + SPLIT, asked, lane, total, peak, mass, key, value, table,
        head, block_stride, inner, outer, BLOCK_SIZE, KV_HEADS, HEAD_DIM, 0, HAS_SOFTCAP, TILE,
        BLOCK_DIM, False,
    )  # fmt: skip
    share = total * (value_scale / tl.where(mass == 0.0, 1.0, mass))[:, None]
    part = (rows * max_splits + split) * HEADS + heads
    tl.store(partial_sums + (part * HEAD_DIM)[:, None] + dims[None, :], share, mask=is_number)
    tl.store(partial_logs + part, peak + tl.log2(mass), mask=is_lane)


def cascade_attention(
    query: torch.Tensor,
    cache: LayerCache,
    groups: PrefixGroups,
    query_start: torch.Tensor,
    context_lens: torch.Tensor,
    block_tables: torch.Tensor,
    scale: float,
    softcap: float | None = None,
) -> torch.Tensor:
    """Compute `reference.paged_attention` for rows of one token each, of which some share prefixes.

    Arguments are those of `decode_attention`; a sliding window has no use for a shared prefix.

    Raises:
        ValueError: a row has several tokens, or tensors are not laid out as the kernel reads them.
    """
    (num_rows, heads, head_dim), num_groups = query.shape, groups.group_start.shape[0] - 1
    if num_rows != context_lens.shape[0]:
        raise ValueError(
            f"rows that share prefixes must bring one token each, got {num_rows} tokens of "
            f"{context_lens.shape[0]} rows"
        )
    block_size, kv_heads = cache.key.shape[1:3]
    group = group_of(heads, kv_heads)
    scores = ScoreScale.of(scale * cache.key_scale, softcap)
    block_dim = power_of_2_from(head_dim, 16)
    tile_queries = 64 if group <= 64 else 128
    partials = Partials(query, num_rows, num_splits_of(block_tables, block_size))
    num_tiles = groups.members.shape[0] // (tile_queries // group) + num_groups
    launch(
        _prefix_kernel,
        (num_tiles, groups.longest_prefix // SPLIT_TOKENS, kv_heads),
        contiguous("query", query),
        cache.key,
        cache.value,
        partials.sums,
        partials.logs,
        groups.members,
        groups.group_start,
        groups.prefix_lens,
        block_tables,
        num_groups,
        block_tables.stride(0),
        block_stride_of(cache),
        partials.num_splits,
        scores.inner,
        scores.outer,
        cache.value_scale,
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        HAS_SOFTCAP=softcap is not None,
        SPLIT=SPLIT_TOKENS,
        TILE_QUERIES=tile_queries,
        TILE=32,
        BLOCK_DIM=block_dim,
        num_warps=4 if block_dim <= 128 else 8,
        num_stages=3,
    )
    return decode_attention(
        query,
        cache,
        query_start,
        context_lens,
        block_tables,
        scale,
        softcap=softcap,
        prefix_lens=groups.prefix_lens,
        partials=partials,
    )
