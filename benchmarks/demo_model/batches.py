"""Conversations packed into rows of one length, each blind to its neighbours.

Knows tensors and positions; knows neither words nor the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .corpus import Conversation


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """What one step trains on; B rows of T tokens."""

    token_ids: Tensor  # [B, T] int64
    positions: Tensor  # [B, T] int64, from 0 in each conversation
    attention_mask: Tensor  # [B, 1, T, T] bool: earlier, and in the same conversation
    targets: Tensor  # [B, T] int64, the next token
    weights: Tensor  # [B, T] float32, the weight of predicting it


@dataclass(slots=True)
class _Row:
    token_ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)

    def append(self, conversation: Conversation) -> None:
        length = len(conversation.token_ids)
        document = self.documents[-1] + 1 if self.documents else 1
        self.token_ids += conversation.token_ids
        self.weights += conversation.weights
        self.positions += range(length)
        self.documents += [document] * length


def pack(
    source: Iterator[Conversation], num_rows: int, length_tokens: int
) -> Iterator[TrainingBatch]:
    """Yield batches without end; a conversation goes to the first row that has room for it.

    A batch is full when a conversation fits nowhere; that one opens the next batch.
    Conversations longer than a row are left out.
    """
    rows = [_Row() for _ in range(num_rows)]
    for conversation in source:
        length = len(conversation.token_ids)
        if length > length_tokens:
            continue
        row = next((r for r in rows if len(r.token_ids) + length <= length_tokens), None)
        if row is None:
            yield _stack(rows, length_tokens)
            rows = [_Row() for _ in range(num_rows)]
            row = rows[0]
        row.append(conversation)


def _stack(rows: list[_Row], length_tokens: int) -> TrainingBatch:
    def tensor(lists: list[list[int]] | list[list[float]], dtype: torch.dtype) -> Tensor:
        padded = [values + [0] * (length_tokens - len(values)) for values in lists]
        return torch.tensor(padded, dtype=dtype)

    token_ids = tensor([row.token_ids for row in rows], torch.int64)
    weights = tensor([row.weights for row in rows], torch.float32)
    documents = tensor([row.documents for row in rows], torch.int64)
    same_document = documents[:, :, None] == documents[:, None, :]
    return TrainingBatch(
        token_ids=token_ids,
        positions=tensor([row.positions for row in rows], torch.int64),
        attention_mask=same_document.tril()[:, None],
        # A conversation's first token weighs nothing, so the wrap at the row's end is harmless.
        targets=token_ids.roll(-1, dims=1),
        weights=weights.roll(-1, dims=1),
    )
