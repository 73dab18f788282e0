"""A model that costs nothing and believes only what it reads back through the block table.

It keeps each token in the cache slot it is given, and makes a row's logits from a hash of all the
tokens that the row's blocks hold. A wrong slot, a block shared too early, freed too soon or filled
by another row: each gives other tokens than `greedy_tokens` tells.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

import numpy as np
import torch

from penstock.engine.architecture import ModelArchitecture
from penstock.engine.batch import StepBatch
from penstock.engine.prefix_forest import PrefixForest

VOCAB_SIZE = 263
EOS = 2
POISON = 7  # a prompt that holds it makes the model raise
NAN = 8  # a prompt that holds it makes the model return NaN


@dataclass(frozen=True)
class FakeArchitecture:
    """What the engine itself asks of a `ModelArchitecture`; the rest is the loader's."""

    max_position_embeddings: int
    vocab_size: int = VOCAB_SIZE
    hidden_size: int = 1
    eos_token_ids: tuple[int, ...] = (EOS,)
    num_labels: int = 0


class FakeRunner:
    is_capturable = True

    def __init__(
        self, num_blocks: int = 64, block_size: int = 16, max_model_len: int = 1 << 20
    ) -> None:
        self.architecture = cast(ModelArchitecture, FakeArchitecture(max_model_len))
        self.device = torch.device("cpu")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.max_model_len = min(max_model_len, (num_blocks - 1) * block_size)
        self.prefix_forest: PrefixForest | None = None
        self.num_computed_tokens = 0
        self.num_steps = 0
        self._cache = np.full(num_blocks * block_size, -1, dtype=np.int64)

    def embed(self, batch: StepBatch) -> torch.Tensor:
        """Each token's hidden state is its likeliest successor."""
        return self.execute(batch).argmax(-1, keepdim=True).float()

    def execute(self, batch: StepBatch) -> torch.Tensor:
        tokens = batch.token_ids.numpy()
        if POISON in tokens:
            raise RuntimeError("this row makes the model raise")
        is_real = batch.slots.numpy() >= 0  # the others only pad
        slots = batch.slots.numpy()[is_real]
        assert (slots >= self.block_size).all(), "the null block was written to"
        assert len({*slots.tolist()}) == len(slots), "two tokens were written to one slot"
        self._cache[slots] = tokens[is_real]
        self.num_computed_tokens += len(slots)
        self.num_steps += 1
        rows = np.searchsorted(batch.query_start.numpy(), batch.logit_rows.numpy(), side="right")
        logits = [
            self._logits(batch, row - 1, int(batch.positions[place]) + 1)
            for row, place in zip(rows.tolist(), batch.logit_rows.tolist(), strict=True)
        ]
        return torch.stack(logits) if logits else torch.empty(0, VOCAB_SIZE)

    def _logits(self, batch: StepBatch, row: int, length: int) -> torch.Tensor:
        table = batch.block_tables[row].numpy().astype(np.int64)
        places = np.arange(length)
        slots = table[places // self.block_size] * self.block_size + places % self.block_size
        prefix = self._cache[slots]
        return logits_after(prefix.tolist())


def logits_after(prefix: list[int]) -> torch.Tensor:
    """Return the float32 logits [vocab] that this model gives after `prefix`."""
    if NAN in prefix:
        return torch.full((VOCAB_SIZE,), torch.nan)
    seed = blake2b(np.asarray(prefix, dtype=np.int64).tobytes(), digest_size=8).digest()
    noise = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))
    logits = torch.from_numpy(noise.standard_normal(VOCAB_SIZE, dtype=np.float32))
    logits[[POISON, NAN]] = -torch.inf
    return logits


def greedy_tokens(
    prompt: tuple[int, ...], max_tokens: int, *, ignore_eos: bool = False
) -> list[int]:
    """Return what greedy decoding gives, computed without any engine."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + max_tokens:
        tokens.append(int(logits_after(tokens).argmax()))
        if tokens[-1] == EOS and not ignore_eos:
            break
    return tokens[len(prompt) :]
