"""Blocks and a step's inputs in plain PyTorch: the specification of what the GPU does by itself.

Knows tables with a line for each running row. Refuses to know sequences and who owns which block.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class RowTables:
    """What the device keeps of the rows that run, a line for each; changed in place.

    Attributes:
        tokens: int32 [lines, max_tokens], tokens known so far.
        num_known: int32 [lines], how many.
        num_computed: int32 [lines], how many of them are in the cache.
        blocks: int32 [lines, max_blocks], the rows' block tables, padded with the null block 0.
    """

    tokens: torch.Tensor
    num_known: torch.Tensor
    num_computed: torch.Tensor
    blocks: torch.Tensor


@dataclass(frozen=True, slots=True)
class StepInputs:
    """`engine.batch.StepBatch` as far as it is tensors that follow from the tables."""

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    context_lens: torch.Tensor
    block_tables: torch.Tensor


def step_inputs(
    tables: RowTables,
    lines: torch.Tensor,
    query_start: torch.Tensor,
    num_tokens: int,
    block_size: int,
) -> StepInputs:
    """Lay out the next tokens of some rows flat, as `engine.batch.build_step_batch` does.

    Args:
        tables: what is known of all rows.
        lines: int32 [R], the rows' lines; -1 for padding, which brings one token: it is written
            nowhere and sees one token of the null block.
        query_start: int32 [R + 1], prefix sums of tokens per row.
        num_tokens: the last of these, known to the host.
        block_size: tokens per block.
    """
    device = lines.device
    token_ids, positions = torch.zeros(2, num_tokens, dtype=torch.int64, device=device)
    slots = torch.full((num_tokens,), -1, dtype=torch.int64, device=device)
    context_lens = torch.ones(lines.shape[0], dtype=torch.int32, device=device)
    block_tables = torch.zeros(
        (lines.shape[0], tables.blocks.shape[1]), dtype=torch.int32, device=device
    )
    starts = query_start.tolist()
    for row, line in enumerate(lines.tolist()):
        if line < 0:
            continue
        begin, end = starts[row], starts[row + 1]
        first = int(tables.num_computed[line])
        places = torch.arange(first, first + end - begin, device=device)
        token_ids[begin:end] = tables.tokens[line, places].long()
        positions[begin:end] = places
        blocks = tables.blocks[line, places // block_size].long()
        slots[begin:end] = blocks * block_size + places % block_size
        context_lens[row] = first + end - begin
        block_tables[row] = tables.blocks[line]
    return StepInputs(token_ids, positions, slots, context_lens, block_tables)


def advance(
    tables: RowTables, lines: torch.Tensor, query_start: torch.Tensor, token_ids: torch.Tensor
) -> None:
    """Note that a step is done, and for rows that have caught up the token it drew, int64 [R]."""
    for row, line in enumerate(lines.tolist()):
        if line < 0:
            continue
        tables.num_computed[line] += query_start[row + 1] - query_start[row]
        known = tables.num_known[line].clone()
        if tables.num_computed[line] == known:
            tables.tokens[line, known] = token_ids[row].int()
            tables.num_known[line] += 1


def copy_blocks(source: torch.Tensor, target: torch.Tensor, pairs: torch.Tensor) -> None:
    """Copy blocks between storages [blocks, ...], over all layers at once.

    Args:
        source: where from; may be the target, if no block is both read and written.
        target: where to.
        pairs: int64 [N, 2], numbers of blocks in `source` and in `target`.
    """
    target[pairs[:, 1]] = source[pairs[:, 0]]


def merge_splits(sums: torch.Tensor, logs: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return attention [R, H, D] over the first `counts` splits of each row.

    Args:
        sums: float32 [R, splits, H, D], attention over each split by itself.
        logs: float32 [R, splits, H], base-2 logarithms of the sums of exponentials.
        counts: int32 [R].
    """
    is_there = torch.arange(sums.shape[1], device=sums.device) < counts[:, None]
    weights = torch.softmax(
        (logs * torch.log(torch.tensor(2.0))).masked_fill(~is_there[..., None], -torch.inf), dim=1
    )
    return (sums.masked_fill(~is_there[..., None, None], 0) * weights[..., None]).sum(1)
