"""A step's inputs from tables that stay on the device, so that the host sends only what changes.

Bytes per row: 4 * max_blocks read and written, 28 for each token. Operations: a few per token.
Bound by latency: one launch, where the host would need six copies. After vLLM's Model Runner V2
(2026).
"""

import torch
import triton
import triton.language as tl

from .reference_cache import RowTables, StepInputs
from .triton_attention import contiguous
from .triton_launch import launch

_TILE = 256
_ROWS = 128


@triton.jit(do_not_specialize=["max_tokens", "max_blocks", "blocks_stride"])
def _inputs_kernel(
    tokens,
    num_computed,
    blocks,
    lines,
    query_start,
    token_ids,
    positions,
    slots,
    context_lens,
    block_tables,
    max_tokens,
    max_blocks,
    blocks_stride,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """One program: one row."""
    row = tl.program_id(0).to(tl.int64)
    line = tl.load(lines + row).to(tl.int64)
    is_real = line >= 0
    begin = tl.load(query_start + row)
    count = tl.load(query_start + row + 1) - begin
    first = tl.load(num_computed + line, mask=is_real, other=0)
    tl.store(context_lens + row, first + count)
    for start in range(0, count, TILE):
        number = start + tl.arange(0, TILE)
        is_token = number < count
        is_known = is_token & is_real
        place = first + number
        token_id = tl.load(tokens + line * max_tokens + place, mask=is_known, other=0)
        block = tl.load(blocks + line * blocks_stride + place // BLOCK_SIZE, mask=is_known, other=0)
        slot = block.to(tl.int64) * BLOCK_SIZE + place % BLOCK_SIZE
        tl.store(token_ids + begin + number, token_id.to(tl.int64), mask=is_token)
        tl.store(positions + begin + number, place.to(tl.int64), mask=is_token)
        tl.store(slots + begin + number, tl.where(is_real, slot, -1), mask=is_token)
    for start in range(0, max_blocks, TILE):
        column = start + tl.arange(0, TILE)
        is_column = column < max_blocks
        block = tl.load(blocks + line * blocks_stride + column, mask=is_column & is_real, other=0)
        tl.store(block_tables + row * max_blocks + column, block, mask=is_column)


@triton.jit(do_not_specialize=["num_rows", "max_tokens"])
def _advance_kernel(
    tokens,
    num_known,
    num_computed,
    lines,
    query_start,
    token_ids,
    num_rows,
    max_tokens,
    TILE: tl.constexpr,
):
    """One program: TILE rows."""
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_row = rows < num_rows
    line = tl.load(lines + rows, mask=is_row, other=-1).to(tl.int64)
    is_real = is_row & (line >= 0)
    begin = tl.load(query_start + rows, mask=is_real, other=0)
    count = tl.load(query_start + rows + 1, mask=is_real, other=0) - begin
    computed = tl.load(num_computed + line, mask=is_real, other=0) + count
    known = tl.load(num_known + line, mask=is_real, other=0)
    tl.store(num_computed + line, computed, mask=is_real)
    has_drawn = is_real & (computed == known)
    token_id = tl.load(token_ids + rows, mask=has_drawn, other=0)
    tl.store(tokens + line * max_tokens + known, token_id.to(tl.int32), mask=has_drawn)
    tl.store(num_known + line, known + 1, mask=has_drawn)


def step_inputs(
    tables: RowTables,
    lines: torch.Tensor,
    query_start: torch.Tensor,
    num_tokens: int,
    block_size: int,
) -> StepInputs:
    """Compute `reference_cache.step_inputs`."""
    num_rows, max_blocks = lines.shape[0], tables.blocks.shape[1]
    inputs = StepInputs(
        token_ids=lines.new_empty((num_tokens,), dtype=torch.int64),
        positions=lines.new_empty((num_tokens,), dtype=torch.int64),
        slots=lines.new_empty((num_tokens,), dtype=torch.int64),
        context_lens=lines.new_empty((num_rows,), dtype=torch.int32),
        block_tables=lines.new_empty((num_rows, max_blocks), dtype=torch.int32),
    )
    launch(
        _inputs_kernel,
        (num_rows,),
        contiguous("tokens", tables.tokens),
        tables.num_computed,
        tables.blocks,
        lines,
        query_start,
        inputs.token_ids,
        inputs.positions,
        inputs.slots,
        inputs.context_lens,
        inputs.block_tables,
        tables.tokens.shape[1],
        max_blocks,
        tables.blocks.stride(0),
        BLOCK_SIZE=block_size,
        TILE=_TILE,
        num_warps=2,
    )
    return inputs


def advance(
    tables: RowTables, lines: torch.Tensor, query_start: torch.Tensor, token_ids: torch.Tensor
) -> None:
    """Compute `reference_cache.advance`, in place on `tables`."""
    num_rows = lines.shape[0]
    launch(
        _advance_kernel,
        (-(-num_rows // _ROWS),),
        contiguous("tokens", tables.tokens),
        tables.num_known,
        tables.num_computed,
        lines,
        query_start,
        token_ids,
        num_rows,
        tables.tokens.shape[1],
        TILE=_ROWS,
        num_warps=1,
    )
