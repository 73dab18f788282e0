"""The likeliest tokens and their log-probabilities, with no softmax in memory and no sort.

    logits [R, vocab]  -> peak, mass and the k likeliest of each tile  -> log-sum-exp, k likeliest

Bytes per row that asks: vocab * itemsize read once; others end at once. Operations: about 2 k per
logit (k rounds of taking the largest in registers). Bound by memory for k up to about 20.
"""

# pyright: reportGeneralTypeIssues=false
# What a kernel calls is typed as if it never returned, so that two results cannot be taken apart.

import torch
import triton
import triton.language as tl

from .triton_attention import contiguous
from .triton_launch import launch, line_stride, power_of_2_from

_TILE = 4096
_MOST = 32


@triton.jit
def _wanted(lines, num_top, line_stride, row):
    """Return how many of the likeliest tokens a row wants; -1 for nothing at all."""
    line = tl.load(lines + row).to(tl.int64)
    return tl.load(num_top + line * line_stride, mask=line >= 0, other=-1)


@triton.jit(do_not_specialize=["num_tiles", "most"])
def _tile_kernel(
    logits,
    lines,
    num_top,
    peaks,
    masses,
    values,
    token_ids,
    stride,
    line_stride,
    vocab_size,
    num_tiles,
    most,
    TILE: tl.constexpr,
):
    """One program: one tile of one row; peaks [R, tiles], values and ids [R, tiles, most]."""
    row = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    count = _wanted(lines, num_top, line_stride, row)
    if count < 0:
        return
    places = tl.arange(0, TILE)
    columns = tile * TILE + places
    is_token = columns < vocab_size
    left = tl.load(logits + row * stride + columns, mask=is_token, other=-float("inf"))
    left = left.to(tl.float32)
    peak = tl.max(left, 0)
    finite_peak = tl.where(peak == -float("inf"), 0.0, peak)
    at = row * num_tiles + tile
    tl.store(peaks + at, peak)
    tl.store(masses + at, tl.sum(tl.exp(left - finite_peak), 0))
    for round in range(count):
        best, place = tl.max(left, 0, return_indices=True, return_indices_tie_break_left=True)
        tl.store(values + at * most + round, best)
        tl.store(token_ids + at * most + round, tile * TILE + place)
        left = tl.where(places == place, -float("inf"), left)


@triton.jit(do_not_specialize=["num_tiles", "most"])
def _row_kernel(
    logits,
    lines,
    num_top,
    chosen,
    peaks,
    masses,
    values,
    token_ids,
    chosen_logprobs,
    top_logprobs,
    top_ids,
    stride,
    line_stride,
    num_tiles,
    most,
    BLOCK_TILES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program: one row."""
    row = tl.program_id(0).to(tl.int64)
    count = _wanted(lines, num_top, line_stride, row)
    if count < 0:
        return
    tiles = tl.arange(0, BLOCK_TILES)
    is_tile = tiles < num_tiles
    tile_peaks = tl.load(peaks + row * num_tiles + tiles, mask=is_tile, other=-float("inf"))
    tile_masses = tl.load(masses + row * num_tiles + tiles, mask=is_tile, other=0.0)
    peak = tl.max(tile_peaks, 0)
    log_sum = peak + tl.log(tl.sum(tile_masses * tl.exp(tile_peaks - peak), 0))
    logit = tl.load(logits + row * stride + tl.load(chosen + row)).to(tl.float32)
    tl.store(chosen_logprobs + row, logit - log_sum)

    places = tl.arange(0, BLOCK)
    source = row * num_tiles * most
    is_candidate = (places < num_tiles * most) & (places % most < count)
    left = tl.load(values + source + places, mask=is_candidate, other=-float("inf"))
    for round in range(count):
        best, place = tl.max(left, 0, return_indices=True, return_indices_tie_break_left=True)
        tl.store(top_logprobs + row * most + round, best - log_sum)
        place = tl.minimum(place, num_tiles * most - 1)  # of no number, any place may be the best
        tl.store(top_ids + row * most + round, tl.load(token_ids + source + place).to(tl.int64))
        left = tl.where(places == place, -float("inf"), left)


def top_logprobs(
    logits: torch.Tensor,
    lines: torch.Tensor,
    chosen: torch.Tensor,
    num_top: torch.Tensor,
    most: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute `reference_sampling.top_logprobs`; at least `most` logits are above -inf.

    Raises:
        ValueError: `most` is more than registers hold.
    """
    rows, vocab_size = contiguous("logits", logits).shape
    if not 1 <= most <= min(_MOST, vocab_size):
        raise ValueError(f"most must be from 1 to {min(_MOST, vocab_size)}, got {most}")
    num_tiles = -(-vocab_size // _TILE)
    peaks, masses = logits.new_empty((2, rows, num_tiles), dtype=torch.float32)
    values = logits.new_empty((rows, num_tiles, most), dtype=torch.float32)
    token_ids = logits.new_empty((rows, num_tiles, most), dtype=torch.int32)
    launch(
        _tile_kernel,
        (rows, num_tiles),
        logits,
        lines,
        num_top,
        peaks,
        masses,
        values,
        token_ids,
        logits.stride(0),
        line_stride(num_top),
        vocab_size,
        num_tiles,
        most,
        TILE=_TILE,
        num_warps=8,
    )
    of_chosen = logits.new_empty((rows,), dtype=torch.float32)
    best = logits.new_empty((rows, most), dtype=torch.float32)
    best_ids = logits.new_empty((rows, most), dtype=torch.int64)
    launch(
        _row_kernel,
        (rows,),
        logits,
        lines,
        num_top,
        chosen,
        peaks,
        masses,
        values,
        token_ids,
        of_chosen,
        best,
        best_ids,
        logits.stride(0),
        line_stride(num_top),
        num_tiles,
        most,
        BLOCK_TILES=power_of_2_from(num_tiles, 2),
        BLOCK=power_of_2_from(num_tiles * most, 2),
        num_warps=4,
    )
    return of_chosen, best, best_ids
