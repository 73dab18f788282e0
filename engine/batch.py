"""One step's work, laid out flat for the model: the seam between scheduler and runner.

    step tokens   [ r0 r0 r0 | r1 | r2 r2 ]      three rows, 3 + 1 + 2 tokens
    query_start   [ 0          3    4       6 ]  where each row's tokens begin, and the end
    context_lens  [ 19         40   2 ]          tokens of the row in the cache after this step
    block_tables  [ 7 3 . ]  [ 1 9 4 ]  [ 8 . . ]

A decode is a row with one token; nothing here says "prefill" or "decode". Row tensors keep the
order in which the scheduler chose the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from ..kernels.prefix_groups import PrefixGroups


class ScheduledRow(NamedTuple):  # which is made in half the time, once for each row of a step
    """One row's part in a step, as the scheduler hands it over.

    Attributes:
        token_ids: the tokens this step computes.
        position: the first one's place in its sequence.
        block_table: the row's blocks, at least as many as its tokens need after this step.
        num_logits: how many of the last tokens' logits are wanted.
    """

    token_ids: Sequence[int]
    position: int
    block_table: Sequence[int]
    num_logits: int = 1


@dataclass(frozen=True, slots=True)
class StepBatch:
    """Inputs of one forward pass over T tokens of R rows, all on the model's device.

    Attributes:
        token_ids: int64 [T].
        positions: int64 [T], each token's place in its sequence, from 0.
        slots: int64 [T], where each token's key and value go: block * block_size + offset.
        query_start: int32 [R + 1], prefix sums of tokens per row.
        context_lens: int32 [R], tokens of the row in the cache once this step has written its own.
        block_tables: int32 [R, max_blocks], padded with the null block 0.
        logit_rows: int64 [L], indices into T of the tokens whose logits are wanted.
        max_context_len: the largest of context_lens, or more.
        prefix_groups: which rows read the same keys, where attention is to be told.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    query_start: torch.Tensor
    context_lens: torch.Tensor
    block_tables: torch.Tensor
    logit_rows: torch.Tensor
    max_context_len: int
    prefix_groups: PrefixGroups | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens in this step."""
        return self.token_ids.shape[0]

    @property
    def num_rows(self) -> int:
        """Rows in this step."""
        return self.context_lens.shape[0]


def build_step_batch(
    rows: Sequence[ScheduledRow],
    block_size: int,
    device: torch.device,
    *,
    num_more: int = 0,
    groups: PrefixGroups | None = None,
) -> StepBatch:
    """Lay the scheduled rows out flat on the device. Rows must bring at least one token each.

    The block tables also hold the blocks of `num_more` tokens of each row that has so many to
    come, see `next_step_batch`. `groups` are those of these rows, see `prefix_forest`.

    Raises:
        ValueError: there are no rows, or a row's tokens do not fit its block table.
    """
    counts = np.array([len(row.token_ids) for row in rows], dtype=np.int32)
    begins = np.array([row.position for row in rows], dtype=np.int32)
    if not rows or not counts.all():
        raise ValueError(f"a step needs rows with at least one token each, got {counts.tolist()}")
    context_lens = begins + counts
    num_blocks = -(-context_lens // block_size)
    longest = int(context_lens.max()) + num_more
    block_tables = np.zeros((len(rows), -(-longest // block_size)), dtype=np.int32)
    for table, row, used in zip(block_tables, rows, num_blocks.tolist(), strict=True):
        if len(row.block_table) < used:
            raise ValueError(
                f"block_table must hold {used} blocks for a row of "
                f"{row.position + len(row.token_ids)} tokens, got {len(row.block_table)}"
            )
        held = row.block_table[: len(table)] if num_more else row.block_table[:used]
        table[: len(held)] = held

    query_start = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(counts, out=query_start[1:])
    num_tokens = int(query_start[-1])
    token_ids = np.fromiter(
        chain.from_iterable(row.token_ids for row in rows), dtype=np.int64, count=num_tokens
    )
    row_of_token = np.repeat(np.arange(len(rows)), counts)
    positions = np.arange(num_tokens) + (begins - query_start[:-1])[row_of_token]
    slots = block_tables[row_of_token, positions // block_size].astype(np.int64) * block_size
    slots += positions % block_size
    num_logits = np.array([row.num_logits for row in rows], dtype=np.int64)
    first_logits = np.cumsum(num_logits) - num_logits
    logit_rows = np.arange(num_logits.sum()) + np.repeat(
        query_start[1:] - num_logits - first_logits, num_logits
    )

    def on_device(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return StepBatch(
        token_ids=on_device(token_ids),
        positions=on_device(positions),
        slots=on_device(slots),
        query_start=on_device(query_start),
        context_lens=on_device(context_lens),
        block_tables=on_device(block_tables),
        logit_rows=on_device(logit_rows),
        max_context_len=int(context_lens.max()),
        prefix_groups=groups,
    )


def next_step_batch(
    batch: StepBatch, token_ids: Sequence[int], kept: Sequence[int], block_size: int
) -> StepBatch:
    """Return the step after one of single tokens, for those rows of it that go on.

    `token_ids` are what each row of `batch` has drawn, `kept` the rows that get another one. If
    some do not, the others go on without groups, which name rows by their places.
    """
    device = batch.token_ids.device
    rows = torch.tensor(kept, device=device)
    whole = len(kept) == batch.num_rows
    block_tables = batch.block_tables if whole else batch.block_tables[rows]
    positions = (batch.positions if whole else batch.positions[rows]) + 1
    blocks = block_tables.gather(1, (positions // block_size)[:, None])[:, 0].long()
    context_lens = (batch.context_lens if whole else batch.context_lens[rows]) + 1
    return StepBatch(
        token_ids=torch.tensor([token_ids[row] for row in kept], device=device),
        positions=positions,
        slots=blocks * block_size + positions % block_size,
        query_start=batch.query_start[: len(kept) + 1],
        context_lens=context_lens,
        block_tables=block_tables,
        logit_rows=batch.logit_rows[: len(kept)],
        max_context_len=batch.max_context_len + 1,
        prefix_groups=batch.prefix_groups if whole else None,
    )
