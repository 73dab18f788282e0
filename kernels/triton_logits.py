"""What a row's rules do to its logits, in place: biases, endings out of reach, a mask of tokens.

Bytes per row that has any: 16 for each bias, 8 for each ending; vocab / 8 for a mask, and 4 for
each token it forbids; rows without end at once. Operations: under 10 per logit. Bound by memory.
`reference_logits` says what the tables hold.
"""

import torch
import triton
import triton.language as tl

from .reference_logits import Rules
from .triton_attention import contiguous
from .triton_launch import launch, line_stride

_TILE = 4096
_TOKENS = 128


@triton.jit(do_not_specialize=["max_biases", "max_endings"])
def _adjust_kernel(
    logits,
    lines,
    places,
    bias_ids,
    biases,
    nums_biases,
    endings,
    nums_endings,
    mins_tokens,
    stride,
    line_stride,
    max_biases,
    max_endings,
    TILE: tl.constexpr,
):
    """One program: one row."""
    row = tl.program_id(0).to(tl.int64)
    line = tl.load(lines + row).to(tl.int64)
    if line < 0:
        return
    target = logits + row * stride
    num_biases = tl.load(nums_biases + line * line_stride)
    for start in range(0, num_biases, TILE):
        number = start + tl.arange(0, TILE)
        is_bias = number < num_biases
        token_id = tl.load(bias_ids + line * max_biases + number, mask=is_bias, other=0)
        bias = tl.load(biases + line * max_biases + number, mask=is_bias, other=0.0)
        logit = tl.load(target + token_id, mask=is_bias, other=0.0)
        tl.store(target + token_id, logit + bias, mask=is_bias)
    if tl.load(places + line) >= tl.load(mins_tokens + line * line_stride):
        return
    tl.debug_barrier()  # a token that ends the output may have a bias too
    num_endings = tl.load(nums_endings + line * line_stride)
    for start in range(0, num_endings, TILE):
        number = start + tl.arange(0, TILE)
        is_ending = number < num_endings
        token_id = tl.load(endings + line * max_endings + number, mask=is_ending, other=0)
        tl.store(target + token_id, tl.full((TILE,), -float("inf"), tl.float32), mask=is_ending)


@triton.jit
def _allow_kernel(
    logits,
    lines,
    masks,
    are_limited,
    stride,
    line_stride,
    num_words,
    vocab_size,
    TILE: tl.constexpr,
):
    """One program: one tile of one row."""
    row = tl.program_id(0).to(tl.int64)
    line = tl.load(lines + row).to(tl.int64)
    if tl.load(are_limited + line * line_stride, mask=line >= 0, other=0) == 0:
        return
    token_ids = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_word = token_ids < 32 * num_words
    word = tl.load(masks + line * num_words + token_ids // 32, mask=is_word, other=0)
    is_forbidden = ((word >> (token_ids % 32)) & 1) == 0
    tl.store(
        logits + row * stride + token_ids,
        tl.full((TILE,), -float("inf"), tl.float32),
        mask=is_forbidden & (token_ids < vocab_size),
    )


def adjust(logits: torch.Tensor, lines: torch.Tensor, places: torch.Tensor, rules: Rules) -> None:
    """Compute `reference_logits.adjust`, in place on float32 logits [R, vocab]."""
    launch(
        _adjust_kernel,
        (contiguous("logits", logits).shape[0],),
        logits,
        lines,
        places,
        contiguous("bias_ids", rules.bias_ids),
        contiguous("biases", rules.biases),
        rules.num_biases,
        contiguous("endings", rules.endings),
        rules.num_endings,
        rules.min_tokens,
        logits.stride(0),
        line_stride(rules.num_biases, rules.num_endings, rules.min_tokens),
        rules.bias_ids.shape[1],
        rules.endings.shape[1],
        TILE=_TOKENS,
        num_warps=1,
    )


def allow(logits: torch.Tensor, lines: torch.Tensor, rules: Rules) -> None:
    """Compute `reference_logits.allow`, in place on float32 logits [R, vocab]."""
    rows, vocab_size = contiguous("logits", logits).shape
    launch(
        _allow_kernel,
        (rows, -(-vocab_size // _TILE)),
        logits,
        lines,
        contiguous("allowed", rules.allowed),
        rules.is_limited,
        logits.stride(0),
        line_stride(rules.is_limited),
        rules.allowed.shape[1],
        vocab_size,
        TILE=_TILE,
        num_warps=8,
    )
