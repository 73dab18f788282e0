"""Attention heads of a size the kernels lack, laid out with zeros in heads of a size they take.

    head_dim 6     a0 a1 a2 b0 b1 b2
    padded   8     a0 a1 a2 0  b0 b1 b2 0       rotation turns (a0, b0), (a1, b1), ... together

Zeros stay zeros under rotation, add nothing to a score and come out of attention as zeros, which
meet zero weights in the output projection. Knows tensors, no checkpoint; refuses to know which
sizes there are (`Ops.padded_head_dim`).
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ...kernels.reference import HeadNorm


@dataclass(frozen=True, slots=True)
class PaddedHeads:
    """Heads of `head_dim` numbers in the places of `padded_dim`; both even, and often equal."""

    head_dim: int
    padded_dim: int

    def outputs(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return [heads * padded_dim, ...] for [heads * head_dim, ...]: weights or biases."""
        if self.padded_dim == self.head_dim:
            return tensor
        half = self.head_dim // 2
        halves = tensor.unflatten(0, (-1, half))
        padded = halves.new_zeros(halves.shape[0], self.padded_dim // 2, *halves.shape[2:])
        padded[:, :half] = halves
        return padded.flatten(0, 1)

    def inputs(self, weight: torch.Tensor) -> torch.Tensor:
        """Return [N, heads * padded_dim] for [N, heads * head_dim]."""
        return self.outputs(weight.T).T.contiguous()

    def frequencies(self, inverse_frequencies: torch.Tensor) -> torch.Tensor:
        """Return [padded_dim / 2] radians per position; what is padded does not turn."""
        missing = self.padded_dim // 2 - inverse_frequencies.shape[0]
        return F.pad(inverse_frequencies, (0, missing))

    def norm(self, query: torch.Tensor, key: torch.Tensor, eps: float) -> HeadNorm:
        """Return the norm over padded heads for weights [head_dim].

        The mean over a padded head has the same sum but a larger count. With eps shrunk alike,
        normed heads are too long by sqrt(padded_dim / head_dim), no more; `scale` makes up for it.
        """
        eps *= self.head_dim / self.padded_dim
        return HeadNorm(query=self.outputs(query), key=self.outputs(key), eps=eps)

    def scale(self, head_norm: HeadNorm | None) -> float:
        """Return the factor on attention's scores."""
        excess = self.padded_dim / self.head_dim if head_norm else 1.0
        return self.head_dim**-0.5 / excess
