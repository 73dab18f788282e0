"""What tokens seen before weigh in the next choice. Knows one row's tokens and its logits."""

from collections.abc import Iterable
from typing import Self

import numpy as np
import torch

from .sampling_params import SamplingParams

_FIRST_ROOM = 64


class TokenHistory:
    """The distinct tokens of a row and how often its output has each, kept up token by token.

    ids      [ 5  6  9  . ]     in order of their first appearance, with room for more
    counts   [ 0  0  3  . ]     0 for what the prompt alone has
    """

    __slots__ = ("_counts", "_ids", "_place_of")

    def __init__(self, prompt_token_ids: Iterable[int]) -> None:
        self._place_of: dict[int, int] = {}
        self._ids = np.zeros(_FIRST_ROOM, dtype=np.int64)
        self._counts = np.zeros(_FIRST_ROOM, dtype=np.float32)
        for token_id in prompt_token_ids:
            self._find(token_id)

    @classmethod
    def of(cls, params: SamplingParams, prompt_token_ids: Iterable[int]) -> Self | None:
        """Return the history that a row's penalties need, None if it has none."""
        if params.repetition_penalty != 1.0:
            return cls(prompt_token_ids)
        if params.presence_penalty or params.frequency_penalty:
            return cls(())  # which look at the output alone
        return None

    def add(self, token_id: int) -> None:
        """Count one more token of the output."""
        place = self._find(token_id)  # which may make room, and with it other counts
        self._counts[place] += 1.0

    def penalise(self, logits: torch.Tensor, params: SamplingParams) -> None:
        """Change one row's `logits` [vocab]: repetition, then frequency and presence penalties."""
        num_distinct = len(self._place_of)
        if not num_distinct:
            return
        ids = torch.from_numpy(self._ids[:num_distinct]).to(logits.device)
        counts = torch.from_numpy(self._counts[:num_distinct]).to(logits.device)
        values = logits[ids]
        if params.repetition_penalty != 1.0:
            penalty = params.repetition_penalty
            values *= torch.where(values > 0, 1.0 / penalty, penalty)
        values -= params.frequency_penalty * counts + params.presence_penalty * (counts > 0)
        logits[ids] = values

    def _find(self, token_id: int) -> int:
        """Return a token's place, a new one if it is new."""
        place = self._place_of.setdefault(token_id, len(self._place_of))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token_id
        return place
