"""A model made of tensors alone, which reads nothing back: what a GPU's would be to a capture.

As `fake_runner`, it believes only what it reads through the block table.
"""

from typing import cast

import torch

from penstock.engine.architecture import ModelArchitecture
from penstock.engine.batch import StepBatch

from .fake_runner import EOS, NAN, POISON, VOCAB_SIZE, FakeArchitecture

_PRIME = 1_000_003  # whose multiples float32 tells apart
_BASE = 31


class TensorRunner:
    is_capturable = True
    prefix_forest = None

    def __init__(self, num_blocks: int = 64, block_size: int = 16) -> None:
        self.max_model_len = (num_blocks - 1) * block_size
        self.architecture = cast(ModelArchitecture, FakeArchitecture(self.max_model_len))
        self.device = torch.device("cpu")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._cache = torch.full((num_blocks * block_size + 1,), -1)  # the last one for slot -1
        self._weights = torch.tensor(_weights(self.max_model_len + num_blocks * block_size))

    def embed(self, batch: StepBatch) -> torch.Tensor:
        return self.execute(batch).argmax(-1, keepdim=True).float()

    def execute(self, batch: StepBatch) -> torch.Tensor:
        slots = batch.slots.where(batch.slots >= 0, len(self._cache) - 1)
        self._cache.index_copy_(0, slots, batch.token_ids)
        ends = batch.query_start[1:].long()
        rows = torch.searchsorted(ends, batch.logit_rows, right=True)
        places = torch.arange(batch.block_tables.shape[1] * self.block_size)
        blocks = batch.block_tables.long()[rows].repeat_interleave(self.block_size, dim=1)
        tokens = self._cache[blocks * self.block_size + places % self.block_size]
        seen = places <= batch.positions[batch.logit_rows][:, None]
        terms = (tokens + 1) * self._weights[: len(places)] % _PRIME
        sums = terms.where(seen, 0).sum(1) % _PRIME
        logits = _logits(sums[:, None], torch.arange(VOCAB_SIZE))
        is_bad = ((tokens == NAN) & seen).any(1, keepdim=True)
        return logits.where(~is_bad, torch.nan)


def tensor_tokens(
    prompt: tuple[int, ...], max_tokens: int, *, ignore_eos: bool = True
) -> list[int]:
    """Return what greedy decoding gives, computed without any engine."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + max_tokens:
        weights = _weights(len(tokens))
        total = sum((t + 1) * w % _PRIME for t, w in zip(tokens, weights, strict=True)) % _PRIME
        tokens.append(int(_logits(torch.tensor([[total]]), torch.arange(VOCAB_SIZE)).argmax()))
        if tokens[-1] == EOS and not ignore_eos:
            break
    return tokens[len(prompt) :]


def _weights(count: int) -> list[int]:
    return [pow(_BASE, place, _PRIME) for place in range(count)]


def _logits(sums: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """Return [L, vocab]: a hash of both, from 0 to 10, but for tokens that mean harm."""
    hashed = ((sums * 7919 + token_ids) % _PRIME * 69_621 + 17) % _PRIME
    hashed = hashed * hashed % _PRIME
    harmful = (token_ids == NAN) | (token_ids == POISON)
    return (hashed.float() / 1e5).where(~harmful, -torch.inf)
