"""One vector for a whole prompt: an embedding, or the scores of a classifier. Knows sums, no model.

A pooled request has no output of its own. It ends when its prompt is computed, whatever the chunks,
and in the same steps as others generate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

Vector = tuple[float, ...]


class PoolingKind(StrEnum):
    """Which of the prompt's hidden states count."""

    LAST = "last"  # the last token's, which has seen all others
    MEAN = "mean"  # all of them alike
    SCORE = "score"  # the last token's, through a classifier's head


@dataclass(frozen=True, slots=True)
class Pooling:
    """What is asked for instead of an output.

    Attributes:
        normalize: scale to length 1; scores are never scaled.
        dimensions: keep so many leading numbers, as embeddings trained for it allow (Matryoshka
            representation learning, arXiv 2205.13147).

    Raises:
        ValueError: `dimensions` is out of range.
    """

    kind: PoolingKind = PoolingKind.LAST
    normalize: bool = True
    dimensions: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "kind", PoolingKind(self.kind))
        if self.dimensions is not None and self.dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {self.dimensions}")


@dataclass(frozen=True, slots=True)
class PooledPart:
    """The sum of what a step brought for some positions of a prompt."""

    positions: range
    total: np.ndarray


class Pooler:
    """Gathers one prompt's vector from its parts.

    Attributes:
        num_summed: leading positions that count already, if all do.
    """

    def __init__(self, pooling: Pooling, num_prompt: int) -> None:
        self._pooling = pooling
        self._num_prompt = num_prompt
        self._total: np.ndarray | None = None
        self.num_summed = 0

    @property
    def wants_hidden(self) -> bool:
        """Whether it is hidden states that count; else what the model's head makes of them."""
        return self._pooling.kind is not PoolingKind.SCORE

    @property
    def lacks_positions(self) -> bool:
        """Whether positions count that have not been seen, be their keys and values cached."""
        return self._pooling.kind is PoolingKind.MEAN and self.num_summed < self._num_prompt

    def due(self, begin: int, end: int) -> range:
        """Return which of the positions from `begin` to `end` count and have not been summed."""
        if self._pooling.kind is PoolingKind.MEAN:
            return range(max(begin, self.num_summed), end)
        return range(max(begin, self._num_prompt - 1), end)

    def add(self, parts: Sequence[PooledPart]) -> None:
        """Count what a step brought; what a repeated computation brings again, counts once."""
        for part in parts:
            if self._pooling.kind is not PoolingKind.MEAN:
                self._total = part.total
            elif part.positions.start == self.num_summed:
                self._total = part.total if self._total is None else self._total + part.total
                self.num_summed = part.positions.stop

    def vector(self) -> Vector:
        """Return the whole prompt's vector, in float32.

        Raises:
            ValueError: some of it is missing.
        """
        if self._total is None or self.lacks_positions:
            raise ValueError("the prompt has not been computed to its end")
        vector = self._total.astype(np.float64)
        if self._pooling.kind is PoolingKind.SCORE:
            return tuple(vector.tolist())
        if self._pooling.kind is PoolingKind.MEAN:
            vector /= self._num_prompt
        vector = vector[: self._pooling.dimensions]
        if self._pooling.normalize:
            vector /= max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny)
        return tuple(vector.astype(np.float32).tolist())
