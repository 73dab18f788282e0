"""Attention of rows that share a prefix: its keys are read once for many rows, not once for each.

    rows 0 1 2 3 share 512 tokens      |   0.....255   |  256.....511  |   own tokens
    one tile holds all their queries   |  4 x group    |  4 x group    |   decode, row by row

The shared part is cut where decoding cuts it too, and its results lie where decoding's would: so
`triton_decode` goes on from there, and merges them without knowing. Hydragen (Juravsky 2024) and
FlashInfer's cascades do the same for one prefix; here there may be any number of groups, and groups
within groups. As in decoding, every program finds its items by itself: the grid depends on nothing
but the device, and a CUDA graph can be replayed with other groups.

Bytes for a group of n rows over p shared tokens: 2 * p * kv_heads * head_dim * itemsize, instead of
n times as many (its tiles run side by side, and find the keys in L2), plus 8 * heads * head_dim * p
/ 256 for each row. Operations: as without.
"""

import torch
import triton
import triton.language as tl

from .prefix_groups import SPLIT_TOKENS, PrefixGroups
from .reference import LayerCache
from .triton_attention import (
    ScoreScale,
    attend,
    block_stride_of,
    contiguous,
    group_of,
)
from .triton_decode import Partials, decode_attention, num_splits_of, tile_of
from .triton_launch import launch, num_persistent_programs, power_of_2_from

_RESIDENT = 2  # programs of a multiprocessor: as many as there are registers for


@triton.jit(do_not_specialize=["num_groups", "table_stride", "max_splits"])
def _prefix_kernel(
    query,
    key,
    value,
    partial_sums,
    partial_logs,
    group_start,
    first_tokens,
    end_tokens,
    members,
    query_start,
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
    ALL_DECODE: tl.constexpr,
    SPLIT: tl.constexpr,
    TILE_QUERIES: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """One item is (group, split, key-value head, TILE_QUERIES // GROUP of the group's rows)."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    ROWS: tl.constexpr = TILE_QUERIES // GROUP
    groups = tl.arange(0, BLOCK_GROUPS)
    is_group = groups < num_groups
    begins = tl.load(group_start + groups, mask=is_group, other=0)
    ends = tl.load(group_start + groups + 1, mask=is_group, other=0)
    firsts = tl.load(first_tokens + groups, mask=is_group, other=0) // SPLIT
    lasts = tl.load(end_tokens + groups, mask=is_group, other=0) // SPLIT
    tiles = tl.cdiv(ends - begins, ROWS)
    counts = tiles * (lasts - firsts) * KV_HEADS
    upto = tl.cumsum(counts, 0)
    num_items = tl.sum(counts, 0)

    lane = tl.arange(0, TILE_QUERIES)
    dims = tl.arange(0, BLOCK_DIM)
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        here = groups == tl.sum((upto <= item).to(tl.int32), 0)
        place = item - tl.sum(tl.where(here, upto - counts, 0), 0)
        num_tiles = tl.sum(tl.where(here, tiles, 0), 0)
        begin = tl.sum(tl.where(here, begins, 0), 0)
        end = tl.sum(tl.where(here, ends, 0), 0)
        # Tiles over the same keys follow one another.
        piece = place // num_tiles
        head = piece % KV_HEADS
        split = tl.sum(tl.where(here, firsts, 0), 0) + piece // KV_HEADS
        member = begin + (place - piece * num_tiles) * ROWS + lane // GROUP
        is_lane = (lane < ROWS * GROUP) & (member < end)
        rows = tl.load(members + member, mask=is_lane, other=0)
        tokens = rows
        if not ALL_DECODE:
            tokens = tl.load(query_start + rows)
        heads = head * GROUP + lane % GROUP
        is_number = is_lane[:, None] & (dims < HEAD_DIM)[None, :]
        at = ((tokens.to(tl.int64) * HEADS + heads) * HEAD_DIM)[:, None] + dims[None, :]
        asked = tl.load(query + at, mask=is_number, other=0.0)

        total = tl.zeros((TILE_QUERIES, BLOCK_DIM), tl.float32)
        peak = tl.full((TILE_QUERIES,), -float("inf"), tl.float32)
        mass = tl.zeros((TILE_QUERIES,), tl.float32)
        table = block_tables + tl.load(members + begin).to(tl.int64) * table_stride
        total, peak, mass = attend(
            split * SPLIT, split * SPLIT + SPLIT, asked, lane, total, peak, mass, key, value, table,
            head, block_stride, inner, outer, BLOCK_SIZE, KV_HEADS, HEAD_DIM, 0, HAS_SOFTCAP, TILE,
            BLOCK_DIM, False,
        )  # fmt: skip
        share = total * (value_scale / tl.where(mass == 0.0, 1.0, mass))[:, None]
        part = (rows.to(tl.int64) * max_splits + split) * HEADS + heads
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
    *,
    output: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute what `decode_attention` does, for rows of which some share prefixes.

    Arguments are those of `decode_attention`; a sliding window has no use for a shared prefix. Rows
    in groups bring one token each.

    Raises:
        ValueError: too many rows, or tensors that are not laid out as the kernel reads them.
    """
    (num_tokens, heads, head_dim), num_rows = query.shape, context_lens.shape[0]
    block_size, kv_heads = cache.key.shape[1:3]
    if num_rows > groups.prefix_lens.shape[0]:
        raise ValueError(
            f"prefix_lens must tell of all {num_rows} rows, got {groups.prefix_lens.shape[0]}"
        )
    group, num_groups = group_of(heads, kv_heads), groups.first_tokens.shape[0]
    scores = ScoreScale.of(scale * cache.key_scale, softcap)
    block_dim = power_of_2_from(head_dim, 16)
    partials = Partials(query, num_rows, num_splits_of(block_tables, block_size))
    launch(
        _prefix_kernel,
        (num_persistent_programs(query.device, _RESIDENT),),
        contiguous("query", query),
        cache.key,
        cache.value,
        partials.sums,
        partials.logs,
        groups.group_start,
        groups.first_tokens,
        groups.end_tokens,
        groups.members,
        query_start,
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
        ALL_DECODE=num_tokens == num_rows,
        SPLIT=SPLIT_TOKENS,
        TILE_QUERIES=64 if group <= 64 else 128,
        TILE=tile_of(block_dim),
        BLOCK_GROUPS=power_of_2_from(num_groups, 16),
        BLOCK_DIM=block_dim,
        num_warps=4 if block_dim == 128 else 8,  # registers of an A100 suffice for no fewer
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
        output=output,
        prefix_lens=groups.prefix_lens,
        partials=partials,
    )
