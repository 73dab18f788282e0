"""One step's work, laid out flat for the model: the seam between scheduler and runner.

    step tokens   [ r0 r0 r0 | r1 | r2 r2 ]      three rows, 3 + 1 + 2 tokens
    query_start   [ 0          3    4       6 ]  where each row's tokens begin, and the end
    context_lens  [ 19         40   2 ]          tokens of the row in the cache after this step
    block_tables  [ 7 3 . ]  [ 1 9 4 ]  [ 8 . . ]

A decode is a row with one token; nothing here says "prefill" or "decode". Row tensors keep the
order in which the scheduler chose the rows.
"""

from dataclasses import dataclass

import torch


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
        max_query_len: the most tokens any row brings.
        max_context_len: the largest of context_lens.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    query_start: torch.Tensor
    context_lens: torch.Tensor
    block_tables: torch.Tensor
    logit_rows: torch.Tensor
    max_query_len: int
    max_context_len: int

    @property
    def num_tokens(self) -> int:
        """Tokens in this step."""
        return self.token_ids.shape[0]

    @property
    def num_rows(self) -> int:
        """Rows in this step."""
        return self.context_lens.shape[0]
