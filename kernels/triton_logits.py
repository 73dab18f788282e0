"""What changes logits before a token is drawn: penalties, and a grammar's bitmask; both in place.

Bytes per row that has any: vocab * 4 for penalties, and 8 for each token it has seen; vocab / 8 for
a bitmask, and 4 for each token it forbids; rows without end at once. Operations: under 10 per
logit. Bound by memory. `reference_sampling` says what `history` holds.
"""

import torch
import triton
import triton.language as tl

from .reference_sampling import Penalties
from .triton_attention import contiguous
from .triton_launch import launch

_TILE = 4096
_TOKENS = 256


@triton.jit(do_not_specialize=["num_tokens"])
def _record_kernel(
    history,
    slots,
    token_ids,
    num_tokens,
    vocab_size,
    TILE: tl.constexpr,
):
    """Count each row's token twice; several rows may share neither slot nor memory."""
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_row = rows < num_tokens
    slot = tl.load(slots + rows, mask=is_row, other=-1).to(tl.int64)
    token_id = tl.load(token_ids + rows, mask=is_row, other=0).to(tl.int64)
    tl.atomic_add(history + slot * vocab_size + token_id, 2, mask=is_row & (slot >= 0))


@triton.jit
def _penalise_kernel(
    logits,
    history,
    slots,
    repetitions,
    frequencies,
    presences,
    stride,
    vocab_size,
    TILE: tl.constexpr,
):
    """One program: one tile of one row."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row).to(tl.int64)
    if slot < 0:
        return
    token_ids = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_token = token_ids < vocab_size
    past = tl.load(history + slot * vocab_size + token_ids, mask=is_token, other=0)
    times = (past // 2).to(tl.float32)
    is_seen = is_token & (past > 0)
    target = logits + row * stride + token_ids
    logit = tl.load(target, mask=is_seen, other=0.0)
    repetition = tl.load(repetitions + row)
    logit = logit * tl.where(logit > 0.0, 1.0 / repetition, repetition)
    said = tl.load(frequencies + row) * times + tl.load(presences + row)
    logit -= tl.where(times > 0.0, said, 0.0)
    tl.store(target, logit, mask=is_seen)


@triton.jit
def _allow_kernel(
    logits,
    rows,
    bits,
    stride,
    bits_stride,
    num_words,
    vocab_size,
    TILE: tl.constexpr,
):
    """One program: one tile of one row that has a grammar."""
    place = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + place).to(tl.int64)
    token_ids = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_word = token_ids < 32 * num_words
    word = tl.load(bits + place * bits_stride + token_ids // 32, mask=is_word, other=0)
    is_forbidden = ((word >> (token_ids % 32)) & 1) == 0
    tl.store(
        logits + row * stride + token_ids,
        tl.full((TILE,), -float("inf"), tl.float32),
        mask=is_forbidden & (token_ids < vocab_size),
    )


def record(history: torch.Tensor, slots: torch.Tensor, token_ids: torch.Tensor) -> None:
    """Compute `reference_sampling.record`, in place on `history`."""
    num_tokens = token_ids.shape[0]
    launch(
        _record_kernel,
        (-(-num_tokens // _TOKENS),),
        contiguous("history", history),
        slots,
        token_ids,
        num_tokens,
        history.shape[1],
        TILE=_TOKENS,
        num_warps=4,
    )


def penalise(
    logits: torch.Tensor, history: torch.Tensor, slots: torch.Tensor, penalties: Penalties
) -> None:
    """Compute `reference_sampling.penalise`, in place on float32 logits [R, vocab]."""
    rows, vocab_size = contiguous("logits", logits).shape
    launch(
        _penalise_kernel,
        (rows, -(-vocab_size // _TILE)),
        logits,
        contiguous("history", history),
        slots,
        penalties.repetition,
        penalties.frequency,
        penalties.presence,
        logits.stride(0),
        vocab_size,
        TILE=_TILE,
        num_warps=8,
    )


def allow(logits: torch.Tensor, rows: torch.Tensor, bits: torch.Tensor) -> None:
    """Compute `reference_sampling.allow`, in place on float32 logits [R, vocab]."""
    vocab_size = contiguous("logits", logits).shape[1]
    launch(
        _allow_kernel,
        (rows.shape[0], -(-vocab_size // _TILE)),
        logits,
        rows,
        bits,
        logits.stride(0),
        bits.stride(0),
        bits.shape[1],
        vocab_size,
        TILE=_TILE,
        num_warps=8,
    )
