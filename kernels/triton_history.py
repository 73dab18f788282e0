"""What rows have said, counted where their tokens lie, and what it costs them to say it again.

Bytes per row that has penalties: vocab * 4 to look at, 8 for each token it has seen, 4 for each
that is new; vocab * 4 once, to forget what another row has left. Others end at once. Operations:
under 10 per logit. Bound by memory. `reference_logits` says what the tables hold.
"""

import torch
import triton
import triton.language as tl

from .reference_cache import RowTables
from .reference_logits import History, Penalties
from .triton_attention import contiguous
from .triton_launch import launch, line_stride

_TILE = 4096
_TOKENS = 1024


@triton.jit(do_not_specialize=["max_tokens"])
def _record_kernel(
    counts,
    slots,
    nums_recorded,
    nums_prompt,
    lines,
    tokens,
    nums_known,
    line_stride,
    max_tokens,
    vocab_size,
    TILE: tl.constexpr,
):
    """One program: one row. Prompts are marked before outputs are counted."""
    line = tl.load(lines + tl.program_id(0)).to(tl.int64)
    slot = tl.load(slots + line * line_stride, mask=line >= 0, other=-1).to(tl.int64)
    if slot < 0:
        return
    target = counts + slot * vocab_size
    recorded = tl.load(nums_recorded + line * line_stride)
    if recorded < 0:
        for start in range(0, vocab_size, TILE):
            token_ids = start + tl.arange(0, TILE)
            tl.store(target + token_ids, tl.zeros((TILE,), tl.int32), mask=token_ids < vocab_size)
        tl.debug_barrier()
        recorded = 0
    num_prompt = tl.load(nums_prompt + line * line_stride)
    num_known = tl.load(nums_known + line)
    source = tokens + line * max_tokens
    for start in range(recorded, num_prompt, TILE):
        places = start + tl.arange(0, TILE)
        is_new = places < num_prompt
        token_ids = tl.load(source + places, mask=is_new, other=0)
        tl.store(target + token_ids, tl.full((TILE,), 1, tl.int32), mask=is_new)
    tl.debug_barrier()
    for start in range(tl.maximum(recorded, num_prompt), num_known, TILE):
        places = start + tl.arange(0, TILE)
        is_new = places < num_known
        token_ids = tl.load(source + places, mask=is_new, other=0)
        tl.atomic_add(target + token_ids, tl.full((TILE,), 2, tl.int32), mask=is_new)
    tl.store(nums_recorded + line * line_stride, num_known)


@triton.jit
def _penalise_kernel(
    logits,
    lines,
    counts,
    slots,
    repetitions,
    reliefs,
    frequencies,
    presences,
    stride,
    slot_stride,
    line_stride,
    vocab_size,
    TILE: tl.constexpr,
):
    """One program: one tile of one row."""
    row = tl.program_id(0).to(tl.int64)
    line = tl.load(lines + row).to(tl.int64)
    slot = tl.load(slots + line * slot_stride, mask=line >= 0, other=-1).to(tl.int64)
    if slot < 0:
        return
    token_ids = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_token = token_ids < vocab_size
    past = tl.load(counts + slot * vocab_size + token_ids, mask=is_token, other=0)
    times = (past // 2).to(tl.float32)
    is_seen = is_token & (past > 0)
    target = logits + row * stride + token_ids
    logit = tl.load(target, mask=is_seen, other=0.0)
    repetition = tl.load(repetitions + line * line_stride)
    relief = tl.load(reliefs + line * line_stride)
    logit = logit * tl.where(logit > 0.0, relief, repetition)
    spent = tl.load(frequencies + line * line_stride) * times
    spent += tl.where(times > 0.0, tl.load(presences + line * line_stride), 0.0)
    tl.store(target, logit - spent, mask=is_seen)


def record(history: History, lines: torch.Tensor, rows: RowTables) -> None:
    """Compute `reference_logits.record`, in place on `history`."""
    launch(
        _record_kernel,
        (lines.shape[0],),
        contiguous("counts", history.counts),
        history.slots,
        history.num_recorded,
        history.num_prompt,
        lines,
        contiguous("tokens", rows.tokens),
        rows.num_known,
        line_stride(history.slots, history.num_recorded, history.num_prompt),
        rows.tokens.shape[1],
        history.counts.shape[1],
        TILE=_TOKENS,
        num_warps=4,
    )


def penalise(
    logits: torch.Tensor, lines: torch.Tensor, history: History, penalties: Penalties
) -> None:
    """Compute `reference_logits.penalise`, in place on float32 logits [R, vocab].

    Nothing is contracted to a fused multiply-add, which would round once where PyTorch rounds
    twice: a row's logits are the same bits here and where the host applies its penalties.
    """
    rows, vocab_size = contiguous("logits", logits).shape
    columns = (
        penalties.repetition,
        penalties.relief,
        penalties.frequency,
        penalties.presence,
    )
    launch(
        _penalise_kernel,
        (rows, -(-vocab_size // _TILE)),
        logits,
        lines,
        contiguous("counts", history.counts),
        history.slots,
        *columns,
        logits.stride(0),
        line_stride(history.slots),
        line_stride(*columns),
        vocab_size,
        TILE=_TILE,
        num_warps=8,
        enable_fp_fusion=False,
    )
