"""Attention of rows with one new token each: long contexts are split, then merged.

    row 0  |0.....255|256..411|            5 items for each key-value head, dealt out
    row 1  |0..190|                        in turn to a fixed number of programs
    row 2  |0.....255|256..300|

Splitting is Flash-Decoding's (Dao 2023), the work list FlashInfer's (Ye 2025). Splits have a fixed
size (not a fixed count, as in vLLM's kernel), so the order of a row's sums depends on that row
alone. Every program finds its items by itself from the lengths: the grid can be frozen in a CUDA
graph. A row of one split is finished at once, others leave partial sums for the merge.

Bytes per row: 2 * context * kv_heads * head_dim * itemsize, plus 8 * heads * head_dim for each
256 tokens of a split row. Operations: 4 * context * heads * head_dim. So it is bound by memory as
long as a group of heads is less than about 100.
"""

import torch
import triton
import triton.language as tl

from .prefix_groups import SPLIT_TOKENS
from .reference import LayerCache
from .triton_attention import (
    ScoreScale,
    absorb,
    block_stride_of,
    contiguous,
    group_of,
    key_offsets,
    scores_of,
)
from .triton_launch import launch, num_persistent_programs, power_of_2_from

_MAX_ROWS = 4096  # every program holds all lengths in registers
_TILE_NUMBERS = 4096  # keys of a tile times their size: two stages of four programs fit an A100
_REGISTERS = 65536  # of a multiprocessor


@triton.jit(do_not_specialize=["num_rows", "table_stride", "max_splits"])
def _decode_kernel(
    query,
    key,
    value,
    output,
    partial_sums,
    partial_logs,
    query_start,
    context_lens,
    prefix_lens,
    block_tables,
    num_rows,
    table_stride,
    block_stride,
    max_splits,
    inner,
    outer,
    key_scale,
    value_scale,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_PREFIXES: tl.constexpr,
    ALL_DECODE: tl.constexpr,
    SPLIT: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """One item is (row, split, key-value head); query and output [T, HEADS, HEAD_DIM]."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    rows = tl.arange(0, BLOCK_ROWS)
    is_row = rows < num_rows
    lengths = tl.load(context_lens + rows, mask=is_row, other=0)
    first_splits = tl.zeros_like(lengths)
    if WINDOW:
        first_splits = tl.maximum(lengths - WINDOW, 0) // SPLIT
    if HAS_PREFIXES:
        prefixes = tl.load(prefix_lens + rows, mask=is_row, other=0)
        first_splits = tl.maximum(first_splits, prefixes // SPLIT)
    counts = tl.cdiv(lengths, SPLIT) - first_splits
    if not ALL_DECODE:
        begins = tl.load(query_start + rows, mask=is_row, other=0)
        ends = tl.load(query_start + rows + 1, mask=is_row, other=0)
        counts = tl.where(ends - begins == 1, counts, 0)
    upto = tl.cumsum(counts, 0)
    num_items = tl.sum(counts, 0) * KV_HEADS

    members = tl.arange(0, BLOCK_GROUP)
    dims = tl.arange(0, BLOCK_DIM)
    is_dim = dims < HEAD_DIM
    for item in range(tl.program_id(0), num_items, tl.num_programs(0)):
        place = item // KV_HEADS
        head = item - place * KV_HEADS
        row = tl.sum((upto <= place).to(tl.int32), 0)
        here = rows == row
        length = tl.sum(tl.where(here, lengths, 0), 0)
        split = place - tl.sum(tl.where(here, upto - counts - first_splits, 0), 0)
        token = row
        if not ALL_DECODE:
            token = tl.load(query_start + row)

        heads = head * GROUP + members
        lane = heads[:, None] * HEAD_DIM + dims[None, :]
        is_lane = (members < GROUP)[:, None] & is_dim[None, :]
        at = token.to(tl.int64) * (HEADS * HEAD_DIM)
        asked = tl.load(query + at + lane, mask=is_lane, other=0.0)

        total = tl.zeros((BLOCK_GROUP, BLOCK_DIM), tl.float32)
        peak = tl.full((BLOCK_GROUP,), -float("inf"), tl.float32)
        mass = tl.zeros((BLOCK_GROUP,), tl.float32)
        begin = split * SPLIT
        end = tl.minimum(begin + SPLIT, length)
        if WINDOW:
            begin = tl.maximum(begin, tl.maximum(length - WINDOW, 0) // TILE * TILE)
        for start in range(begin, end, TILE):
            places = start + tl.arange(0, TILE)
            is_seen = places < end
            if WINDOW:
                is_seen = is_seen & (places >= length - WINDOW)
            offsets = key_offsets(
                block_tables + row.to(tl.int64) * table_stride,
                places,
                is_seen,
                head,
                block_stride,
                BLOCK_SIZE,
                KV_HEADS,
                HEAD_DIM,
            )
            offsets = offsets[:, None] + dims[None, :]
            is_read = is_seen[:, None] & is_dim[None, :]
            keys = tl.load(key + offsets, mask=is_read, other=0.0).to(asked.dtype)
            values = tl.load(value + offsets, mask=is_read, other=0.0).to(asked.dtype)
            scores = scores_of(asked, keys, inner * key_scale, outer, HAS_SOFTCAP)
            scores = tl.where(is_seen[None, :], scores, -float("inf"))
            total, peak, mass = absorb(scores, values, total, peak, mass)

        total = total * value_scale
        if length <= SPLIT:
            attended = total / mass[:, None]
            tl.store(output + at + lane, attended.to(output.dtype.element_ty), mask=is_lane)
        else:
            share = total / tl.where(mass == 0.0, 1.0, mass)[:, None]
            part = (row.to(tl.int64) * max_splits + split) * HEADS
            tl.store(partial_sums + part * HEAD_DIM + lane, share, mask=is_lane)
            tl.store(partial_logs + part + heads, peak + tl.log2(mass), mask=members < GROUP)


@triton.jit(do_not_specialize=["max_splits"])
def _merge_kernel(
    partial_sums,
    partial_logs,
    output,
    query_start,
    context_lens,
    max_splits,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WINDOW: tl.constexpr,
    ALL_DECODE: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Merge the splits of one row and head by their log-sum-exps, in order.

    Bytes: 4 * splits * (head_dim + 1) read, head_dim * itemsize written. Operations: about
    4 * splits * head_dim.
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    length = tl.load(context_lens + row)
    token = row
    if not ALL_DECODE:
        token = tl.load(query_start + row).to(tl.int64)
        if tl.load(query_start + row + 1) - token != 1:
            return
    if length <= SPLIT:
        return
    dims = tl.arange(0, BLOCK_DIM)
    is_dim = dims < HEAD_DIM
    total = tl.zeros((BLOCK_DIM,), tl.float32)
    peak = -float("inf")
    mass = 0.0
    first = 0
    if WINDOW:
        first = tl.maximum(length - WINDOW, 0) // SPLIT
    for split in range(first, tl.cdiv(length, SPLIT)):
        part = (row * max_splits + split) * HEADS + head
        log = tl.load(partial_logs + part)
        sums = tl.load(partial_sums + part * HEAD_DIM + dims, mask=is_dim, other=0.0)
        new_peak = tl.maximum(peak, log)
        finite_peak = tl.where(new_peak == -float("inf"), 0.0, new_peak)
        weight = tl.exp2(log - finite_peak)
        kept = tl.exp2(peak - finite_peak)
        total = total * kept + sums * weight
        mass = mass * kept + weight
        peak = new_peak
    attended = (total / mass).to(output.dtype.element_ty)
    tl.store(output + (token * HEADS + head) * HEAD_DIM + dims, attended, mask=is_dim)


class Partials:
    """Room for the unmerged splits of R rows: sums [R, splits, H, D] and logs [R, splits, H]."""

    def __init__(self, query: torch.Tensor, num_rows: int, num_splits: int) -> None:
        _, heads, head_dim = query.shape
        self.num_splits = num_splits
        self.sums = query.new_empty((num_rows, num_splits, heads, head_dim), dtype=torch.float32)
        self.logs = query.new_empty((num_rows, num_splits, heads), dtype=torch.float32)


def tile_of(block_dim: int) -> int:
    """Return how many keys are taken at a time; the order of sums depends on it."""
    return min(64, _TILE_NUMBERS // block_dim)


def num_splits_of(block_tables: torch.Tensor, block_size: int) -> int:
    """Return the splits of the longest row that the tables can hold."""
    return max(1, -(-block_tables.shape[1] * block_size // SPLIT_TOKENS))


def decode_attention(
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
    prefix_lens: torch.Tensor | None = None,
    partials: Partials | None = None,
) -> torch.Tensor:
    """Compute `reference.paged_attention` for the rows that bring one token; others are skipped.

    Args:
        query: [T, H, D]; as `query_start`, `context_lens`, `block_tables`, see there.
        cache: in query's type, or in float8_e4m3fn, read as numbers times its scales.
        scale: see there; as `sliding_window` and `softcap`.
        output: where to put the result, [T, H, D]; made if None.
        prefix_lens: int32 [R], tokens whose splits are in `partials` already (`triton_cascade`).
        partials: room for the splits, or the prefixes' splits.

    Raises:
        ValueError: too many rows, or tensors that are not laid out as the kernel reads them.
    """
    num_rows, (_, heads, head_dim) = context_lens.shape[0], query.shape
    block_size, kv_heads = cache.key.shape[1:3]
    if num_rows > _MAX_ROWS:
        raise ValueError(f"rows in a step must be at most {_MAX_ROWS}, got {num_rows}")
    contiguous("query", query)
    output = torch.empty_like(query) if output is None else output
    group = group_of(heads, kv_heads)
    scores = ScoreScale.of(scale, softcap)
    partials = partials or Partials(query, num_rows, num_splits_of(block_tables, block_size))
    all_decode = query.shape[0] == num_rows
    block_dim = power_of_2_from(head_dim, 16)
    is_roomy = cache.key.dtype == query.dtype and query.itemsize == 2 and block_dim <= 128
    resident = 4 if is_roomy else 3  # as many as there are registers for
    grid = (num_persistent_programs(query.device, resident),)
    launch(
        _decode_kernel,
        grid,
        query,
        cache.key,
        cache.value,
        output,
        partials.sums,
        partials.logs,
        query_start,
        context_lens,
        prefix_lens if prefix_lens is not None else context_lens,
        block_tables,
        num_rows,
        block_tables.stride(0),
        block_stride_of(cache),
        partials.num_splits,
        scores.inner,
        scores.outer,
        cache.key_scale,
        cache.value_scale,
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        WINDOW=sliding_window or 0,
        HAS_SOFTCAP=softcap is not None,
        HAS_PREFIXES=prefix_lens is not None,
        ALL_DECODE=all_decode,
        SPLIT=SPLIT_TOKENS,
        TILE=tile_of(block_dim),
        BLOCK_ROWS=power_of_2_from(num_rows, 16),
        BLOCK_GROUP=power_of_2_from(group, 16),
        BLOCK_DIM=block_dim,
        num_warps=4,
        num_stages=5,  # block table, then keys and values: two tiles of these are under way
        maxnreg=_REGISTERS // (resident * 4 * 32) // 8 * 8,
    )
    if partials.num_splits > 1:
        launch(
            _merge_kernel,
            (num_rows, heads),
            partials.sums,
            partials.logs,
            output,
            query_start,
            context_lens,
            partials.num_splits,
            HEADS=heads,
            HEAD_DIM=head_dim,
            WINDOW=sliding_window or 0,
            ALL_DECODE=all_decode,
            SPLIT=SPLIT_TOKENS,
            BLOCK_DIM=block_dim,
            num_warps=1,
        )
    return output
