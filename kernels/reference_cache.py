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
        blocks: int32 [lines, max_blocks], the rows' block tables, padded with the null block 0;
            may be the leading columns of wider ones.
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
    rows = torch.repeat_interleave(
        torch.arange(lines.shape[0], device=lines.device),
        query_start.diff().long(),
        output_size=num_tokens,  # or else it would be read from the device
    )
    is_real = lines >= 0
    line = lines.clamp(min=0).long()
    first = tables.num_computed[line].where(is_real, 0)
    numbers = torch.arange(num_tokens, device=lines.device) - query_start[rows]
    positions = first[rows] + numbers
    of_token, known = line[rows], is_real[rows]
    places = positions.where(known, 0)  # padding may bring more tokens than there are places
    blocks = tables.blocks[of_token, places // block_size].long()
    return StepInputs(
        token_ids=tables.tokens[of_token, places].where(known, 0).long(),
        positions=positions,
        slots=(blocks * block_size + places % block_size).where(known, -1),
        context_lens=first + query_start.diff(),
        block_tables=tables.blocks[line].where(is_real[:, None], 0),
    )


def advance(
    tables: RowTables, lines: torch.Tensor, query_start: torch.Tensor, token_ids: torch.Tensor
) -> None:
    """Note that a step is done, and for rows that have caught up the token it drew, int64 [R]."""
    is_real = lines >= 0
    line = lines.clamp(min=0).long()
    count = query_start.diff().where(is_real, 0)
    known = tables.num_known[line]
    has_drawn = is_real & (tables.num_computed[line] + count == known)
    # Added, for padding points at a line that may be somebody's: nothing is what it adds there.
    tables.num_computed.index_add_(0, line, count)
    tables.num_known.index_add_(0, line, has_drawn.int())
    place = known.long().clamp(max=tables.tokens.shape[1] - 1)
    drawn = token_ids.int() - tables.tokens[line, place]
    tables.tokens.index_put_((line, place), drawn.where(has_drawn, 0), accumulate=True)


def copy_blocks(source: torch.Tensor, target: torch.Tensor, pairs: torch.Tensor) -> None:
    """Copy blocks between storages [blocks, ...], over all layers at once.

    Args:
        source: where from; may be the target, if no block is both read and written.
        target: where to.
        pairs: int64 [N, 2], numbers of blocks in `source` and in `target`.
    """
    target[pairs[:, 1]] = source[pairs[:, 0]]
