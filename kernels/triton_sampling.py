"""Drawing tokens: the largest of tempered logit plus Gumbel number, and no softmax in memory.

    logits [R, vocab]  -> best of each tile [R, tiles] -> token and score [R]

Bytes per row: vocab * itemsize read once. Operations: about 40 per logit, mostly the hash and two
logarithms, so it is bound by memory with little to spare. `reference_sampling` says what is drawn.
"""

# pyright: reportGeneralTypeIssues=false
# What a kernel calls is typed as if it never returned, so that two results cannot be taken apart.

import torch
import triton
import triton.language as tl

from .reference_sampling import Chances, Kept
from .triton_attention import contiguous
from .triton_launch import launch, line_stride, power_of_2_from

_TILE = 4096


@triton.jit
def _mix_32(number):
    number = (number ^ (number >> 16)) * 0x7FEB352D
    number = (number ^ (number >> 15)) * 0x846CA68B
    return number ^ (number >> 16)


@triton.jit
def gumbel_of(word, token_ids):
    """Return the Gumbel numbers of tokens, uint32, under a row's uint64 word."""
    mixed = _mix_32(token_ids * 0x9E3779B9 + word.to(tl.uint32))
    mixed = _mix_32(mixed ^ (word >> 32).to(tl.uint32))
    chance = (mixed.to(tl.float32) + 0.5) * (1.0 / 4294967296.0)
    chance = tl.minimum(chance, 1.0 - 1.0 / 16777216.0)
    waiting = tl.where(chance < 1.0 / 256.0, chance + chance * chance / 2, -tl.log(1.0 - chance))
    return -tl.log(waiting)


@triton.jit(do_not_specialize=["num_tiles"])
def _score_kernel(
    logits,
    lines,
    places,
    temperatures,
    keys,
    lowest,
    last_ids,
    best_scores,
    best_ids,
    stride,
    line_stride,
    key_stride,
    vocab_size,
    num_tiles,
    HAS_FILTER: tl.constexpr,
    TILE: tl.constexpr,
):
    """One program: the best token of one tile of one row."""
    row = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    line = tl.load(lines + row).to(tl.int64)
    if line < 0:
        tl.store(best_scores + row * num_tiles + tile, 0.0)
        tl.store(best_ids + row * num_tiles + tile, 0)
        return
    token_ids = tile * TILE + tl.arange(0, TILE)
    is_token = token_ids < vocab_size
    raw = tl.load(logits + row * stride + token_ids, mask=is_token, other=-float("inf"))
    raw = raw.to(tl.float32)
    temperature = tl.load(temperatures + line * line_stride)
    score = raw
    if temperature != 0.0:
        score = raw / temperature
        tempered = score
        state = tl.load(places + line).to(tl.uint64) * 0x9E3779B97F4A7C15
        state += tl.load(keys + line * key_stride).to(tl.uint64)
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB
        score += gumbel_of(state ^ (state >> 31), token_ids.to(tl.uint32))
        if HAS_FILTER:
            floor = tl.load(lowest + row)
            is_equal = (tempered == floor) & (token_ids <= tl.load(last_ids + row))
            score = tl.where((tempered > floor) | is_equal, score, -float("inf"))
    score = tl.where(raw != raw, float("inf"), score)
    best, place = tl.max(score, 0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(best_scores + row * num_tiles + tile, best)
    tl.store(best_ids + row * num_tiles + tile, tile * TILE + place)


@triton.jit(do_not_specialize=["num_tiles"])
def _choose_kernel(best_scores, best_ids, token_ids, scores, num_tiles, BLOCK_TILES: tl.constexpr):
    """One program: the best tile of one row; among equals the first."""
    row = tl.program_id(0)
    tiles = tl.arange(0, BLOCK_TILES)
    found = tl.load(
        best_scores + row * num_tiles + tiles, mask=tiles < num_tiles, other=-float("inf")
    )
    best, tile = tl.max(found, 0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(token_ids + row, tl.load(best_ids + row * num_tiles + tile).to(tl.int64))
    tl.store(scores + row, best)


def sample(
    logits: torch.Tensor,
    lines: torch.Tensor,
    places: torch.Tensor,
    chances: Chances,
    kept: Kept | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute `reference_sampling.sample`."""
    rows, vocab_size = contiguous("logits", logits).shape
    num_tiles = -(-vocab_size // _TILE)
    best_scores = logits.new_empty((rows, num_tiles), dtype=torch.float32)
    best_ids = logits.new_empty((rows, num_tiles), dtype=torch.int32)
    launch(
        _score_kernel,
        (rows, num_tiles),
        logits,
        lines,
        places,
        chances.temperatures,
        chances.keys,
        kept.lowest if kept else best_scores,
        kept.last_id if kept else best_ids,
        best_scores,
        best_ids,
        logits.stride(0),
        line_stride(chances.temperatures),
        line_stride(chances.keys),
        vocab_size,
        num_tiles,
        HAS_FILTER=kept is not None,
        TILE=_TILE,
        num_warps=8,
    )
    token_ids = logits.new_empty((rows,), dtype=torch.int64)
    scores = logits.new_empty((rows,), dtype=torch.float32)
    launch(
        _choose_kernel,
        (rows,),
        best_scores,
        best_ids,
        token_ids,
        scores,
        num_tiles,
        BLOCK_TILES=power_of_2_from(num_tiles, 2),
        num_warps=1,
    )
    return token_ids, scores
