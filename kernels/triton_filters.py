"""Top-k, top-p and min-p without a sort: a search for the lowest logit that is kept.

    -inf |----------a----------b----------c----------| best      count or mass above a, b and c
                               |----------|                      ... the quarter that holds it

A float's bits, read as an integer, rise with it, so the range is cut in four until one value is
left: at most 16 looks at the row for each filter. Equals of that value are kept up to an id, as a
stable sort would keep them. The method is that of the dual-pivot searches of FlashInfer (2025) and
vLLM; the exact border is ours.

Bytes per row: 3 to 36 times vocab * itemsize, from L2 while fewer rows are under way than it holds.
Operations: about 15 per logit and look. Bound by memory.
"""

# pyright: reportGeneralTypeIssues=false
# What a kernel calls is typed as if it never returned, so that two results cannot be taken apart.

import torch
import triton
import triton.language as tl

from .reference_sampling import Chances, Kept
from .triton_attention import contiguous
from .triton_launch import launch, line_stride

_TILE = 4096


@triton.jit
def _ordered(numbers):
    """Return int32 that rise with float32; -0.0 is 0.0."""
    bits = tl.where(numbers == 0.0, 0.0, numbers).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _number(ordered):
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _tempered(source, start, vocab_size, temperature, TILE: tl.constexpr):
    token_ids = start + tl.arange(0, TILE)
    is_token = token_ids < vocab_size
    raw = tl.load(source + token_ids, mask=is_token, other=-float("inf")).to(tl.float32)
    return raw / temperature, token_ids, is_token


@triton.jit
def _weight(numbers, peak):
    return tl.exp2((numbers - peak) * 1.4426950408889634)


@triton.jit
def _above(source, vocab_size, temperature, peak, bound, IS_MASS: tl.constexpr, TILE: tl.constexpr):
    """Return the mass, or the count, of tokens whose order is at least `bound`."""
    total = tl.zeros((TILE,), tl.float32)
    for start in range(0, vocab_size, TILE):
        numbers, _, is_token = _tempered(source, start, vocab_size, temperature, TILE)
        share = is_token.to(tl.float32)
        if IS_MASS:
            share = tl.where(is_token, _weight(numbers, peak), 0.0)
        total += tl.where(_ordered(numbers) >= bound.to(tl.int32), share, 0.0)
    return tl.sum(total, 0)


@triton.jit
def _search(
    source,
    vocab_size,
    temperature,
    peak,
    target,
    low,
    high,
    IS_MASS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Return the highest order in [low, high] at or above which there is at least `target`."""
    while low < high:
        span = high - low
        first = low + (span + 3) // 4
        second = low + (span + 1) // 2
        third = low + (3 * span + 3) // 4
        above_first = tl.zeros((TILE,), tl.float32)
        above_second = tl.zeros((TILE,), tl.float32)
        above_third = tl.zeros((TILE,), tl.float32)
        for start in range(0, vocab_size, TILE):
            numbers, _, is_token = _tempered(source, start, vocab_size, temperature, TILE)
            order = _ordered(numbers)
            share = is_token.to(tl.float32)
            if IS_MASS:
                share = tl.where(is_token, _weight(numbers, peak), 0.0)
            above_first += tl.where(order >= first.to(tl.int32), share, 0.0)
            above_second += tl.where(order >= second.to(tl.int32), share, 0.0)
            above_third += tl.where(order >= third.to(tl.int32), share, 0.0)
        if tl.sum(above_third, 0) >= target:
            low = third
        elif tl.sum(above_second, 0) >= target:
            low = second
            high = third - 1
        elif tl.sum(above_first, 0) >= target:
            low = first
            high = second - 1
        else:
            high = first - 1
    return low


@triton.jit
def _keep_kernel(
    logits,
    lines,
    temperatures,
    top_ks,
    top_ps,
    min_ps,
    lowest,
    last_ids,
    stride,
    line_stride,
    vocab_size,
    TILE: tl.constexpr,
):
    """One program: one row. Orders are int64, so that their differences fit."""
    row = tl.program_id(0).to(tl.int64)
    line = tl.load(lines + row).to(tl.int64)
    is_real = line >= 0
    top_k = tl.load(top_ks + line * line_stride, mask=is_real, other=0)
    top_p = tl.load(top_ps + line * line_stride, mask=is_real, other=1.0)
    min_p = tl.load(min_ps + line * line_stride, mask=is_real, other=0.0)
    temperature = tl.load(temperatures + line * line_stride, mask=is_real, other=1.0)
    has_top_k = (top_k > 0) & (top_k < vocab_size)
    if (top_k <= 0) & (top_p >= 1.0) & (min_p <= 0.0):
        tl.store(lowest + row, -float("inf"))
        tl.store(last_ids + row, 0x7FFFFFFF)
        return
    temperature = tl.where(temperature == 0.0, 1.0, temperature)
    source = logits + row * stride

    peaks = tl.full((TILE,), -float("inf"), tl.float32)
    lows = tl.full((TILE,), float("inf"), tl.float32)
    for start in range(0, vocab_size, TILE):
        numbers, _, is_token = _tempered(source, start, vocab_size, temperature, TILE)
        peaks = tl.maximum(peaks, numbers)
        lows = tl.minimum(lows, tl.where(is_token, numbers, float("inf")))
    peak = tl.max(peaks, 0)
    bottom = _ordered(tl.min(lows, 0)).to(tl.int64)
    top = _ordered(peak).to(tl.int64)

    border = bottom  # the order of the last token that is kept
    num_equal = 0x7FFFFFFF  # how many of that order are
    total = 0.0
    if has_top_k:
        wanted = top_k.to(tl.float32)
        border = _search(source, vocab_size, temperature, peak, wanted, bottom, top, False, TILE)
        higher = _above(source, vocab_size, temperature, peak, border + 1, False, TILE)
        num_equal = (wanted - higher).to(tl.int32)
        if top_p < 1.0:
            total = _above(source, vocab_size, temperature, peak, border + 1, True, TILE)
            total += num_equal * _weight(_number(border.to(tl.int32)), peak)
    elif top_p < 1.0:
        total = _above(source, vocab_size, temperature, peak, bottom, True, TILE)
    if top_p < 1.0:
        wanted = top_p * total
        found = _search(source, vocab_size, temperature, peak, wanted, border, top, True, TILE)
        higher = _above(source, vocab_size, temperature, peak, found + 1, True, TILE)
        rest = tl.ceil((wanted - higher) / _weight(_number(found.to(tl.int32)), peak))
        rest = tl.clamp(rest, 1.0, 1073741824.0).to(tl.int32)
        num_equal = tl.where(found == border, tl.minimum(rest, num_equal), rest)
        border = found
    if min_p > 0.0:
        low = border
        high = top
        while low < high:  # the lowest order that weighs enough; looks at no logit
            middle = low + (high - low) // 2
            if _weight(_number(middle.to(tl.int32)), peak) >= min_p:
                high = middle
            else:
                low = middle + 1
        num_equal = tl.where(low > border, 0x7FFFFFFF, num_equal)
        border = low

    last_id = 0x7FFFFFFF
    if num_equal < vocab_size:
        seen = 0
        for start in range(0, vocab_size, TILE):
            numbers, token_ids, is_token = _tempered(source, start, vocab_size, temperature, TILE)
            is_equal = (is_token & (_ordered(numbers) == border)).to(tl.int32)
            place = seen + tl.cumsum(is_equal, 0)
            is_last = (is_equal == 1) & (place == num_equal)
            last_id = tl.minimum(last_id, tl.min(tl.where(is_last, token_ids, 0x7FFFFFFF), 0))
            seen += tl.sum(is_equal, 0)
    tl.store(lowest + row, _number(border.to(tl.int32)))
    tl.store(last_ids + row, last_id)


def keep_likeliest(logits: torch.Tensor, lines: torch.Tensor, chances: Chances) -> Kept:
    """Compute `reference_sampling.keep_likeliest`; a vocabulary has at most 2**24 tokens."""
    rows, vocab_size = contiguous("logits", logits).shape
    kept = Kept(
        logits.new_empty((rows,), dtype=torch.float32), logits.new_empty((rows,), dtype=torch.int32)
    )
    columns = (chances.temperatures, chances.top_k, chances.top_p, chances.min_p)
    launch(
        _keep_kernel,
        (rows,),
        logits,
        lines,
        *columns,
        kept.lowest,
        kept.last_id,
        logits.stride(0),
        line_stride(*columns),
        vocab_size,
        TILE=_TILE,
        num_warps=16,
    )
    return kept
