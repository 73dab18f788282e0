"""Products of a mixture of experts: rows sorted by expert, each times its own expert's weight.

    starts   0        3  3              9      expert 0 has rows 0 to 2, expert 1 none
    rows     x x x    |  x x x x x x           one program: 16 rows of one expert, 128 outputs

Which expert a tile belongs to is found by binary search in `starts`, so that the host need not know
how many rows each has, and a CUDA graph can be replayed with other choices. The fused mixtures of
vLLM and MegaBlocks (Gale 2022) pad rows to tiles; here the grid has room for a last tile of each
expert that is not full, and programs too many end at once.

Bytes: out * in * itemsize for each expert that has rows (from 16 rows on again for each tile, but
from L2), (in + out) * itemsize for each row. Operations: 2 * out * in for each row. Bound by
memory as long as an expert has less than about 200 rows.
"""

import torch
import triton
import triton.language as tl

from .reference import GroupedProjection
from .triton_attention import contiguous
from .triton_launch import launch, power_of_2_from

_MANY_ROWS = 32  # of an expert on average, from which on large tiles are full enough


@triton.jit(do_not_specialize=["num_experts"])
def _experts_kernel(
    x,
    weights,
    starts,
    output,
    num_experts,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_OUT: tl.constexpr,
    TILE_IN: tl.constexpr,
):
    """One program: TILE_ROWS rows of one expert, TILE_OUT outputs."""
    tile = tl.program_id(0)
    low = 0
    high = num_experts
    while low < high:
        middle = (low + high) // 2
        if tl.load(starts + middle) // TILE_ROWS + middle <= tile:
            low = middle + 1
        else:
            high = middle
    expert = low - 1
    begin = tl.load(starts + expert)
    end = tl.load(starts + expert + 1)
    first = begin + (tile - (begin // TILE_ROWS + expert)) * TILE_ROWS
    if first >= end:
        return

    rows = (first + tl.arange(0, TILE_ROWS)).to(tl.int64)
    outs = tl.program_id(1) * TILE_OUT + tl.arange(0, TILE_OUT)
    is_row = (rows < end)[:, None]
    is_out = (outs < OUT)[:, None]
    weight = weights + (expert * OUT + outs).to(tl.int64)[:, None] * IN
    total = tl.zeros((TILE_ROWS, TILE_OUT), tl.float32)
    for start in range(0, IN, TILE_IN):
        ins = (start + tl.arange(0, TILE_IN))[None, :]
        if IN % TILE_IN == 0:
            given = tl.load(x + rows[:, None] * IN + ins, mask=is_row, other=0.0)
            factors = tl.load(weight + ins, mask=is_out, other=0.0)
        else:
            given = tl.load(x + rows[:, None] * IN + ins, mask=is_row & (ins < IN), other=0.0)
            factors = tl.load(weight + ins, mask=is_out & (ins < IN), other=0.0)
        total = tl.dot(given, tl.trans(factors), total, input_precision="ieee")
    target = output + rows[:, None] * OUT + outs[None, :]
    tl.store(target, total.to(output.dtype.element_ty), mask=is_row & (outs < OUT)[None, :])


def grouped_projection(weights: torch.Tensor) -> GroupedProjection:
    """Compute `reference.grouped_projection`."""
    num_experts, size_out, size_in = contiguous("weights", weights).shape

    def project(x: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        num_rows = x.shape[0]
        output = x.new_empty((num_rows, size_out))
        is_many = num_rows > _MANY_ROWS * num_experts
        tile_rows, warps = (128, 8) if is_many else (16, 4)
        tile_out = min(128, power_of_2_from(size_out, 16))
        launch(
            _experts_kernel,
            (num_rows // tile_rows + num_experts, -(-size_out // tile_out)),
            contiguous("x", x),
            weights,
            starts,
            output,
            num_experts,
            OUT=size_out,
            IN=size_in,
            TILE_ROWS=tile_rows,
            TILE_OUT=tile_out,
            TILE_IN=min(64, power_of_2_from(size_in, 16)),
            num_warps=warps,
            num_stages=3 if is_many else 4,
        )
        return output

    return project
