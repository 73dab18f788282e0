"""Attention heads as the kernels take them: of a size they have, turning as a whole.

A head of 10 numbers of which the first 6 turn, in the places of 12:

    head      r0 r1 r2 r3 r4 r5 s0 s1 s2 s3       the model turns (r0, r3), (r1, r4), (r2, r5)
    padded    r0 r1 r2 s0 s1 0  r3 r4 r5 s2 s3 0  kernels turn each place with that half a head on

Numbers that do not turn have an angle of zero. Zeros stay zeros under rotation, add nothing to a
score and come out of attention as zeros, which meet zero weights in the output projection. Knows
tensors, no checkpoint; refuses to know which sizes there are (`Ops.padded_head_dim`).
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ...kernels.reference import HeadNorm


@dataclass(frozen=True, slots=True)
class PaddedHeads:
    """Heads of `head_dim` numbers, the first `rotated_dim` turning, in `padded_dim` places.

    All three are even, and often equal.
    """

    head_dim: int
    padded_dim: int
    rotated_dim: int

    def outputs(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return [heads * padded_dim, ...] for [heads * head_dim, ...]: weights or biases."""
        if self.padded_dim == self.head_dim == self.rotated_dim:
            return tensor
        heads = tensor.unflatten(0, (-1, self.head_dim))
        padded = heads.new_zeros(heads.shape[0], self.padded_dim, *heads.shape[2:])
        padded[:, self._places()] = heads
        return padded.flatten(0, 1)

    def inputs(self, weight: torch.Tensor) -> torch.Tensor:
        """Return [N, heads * padded_dim] for [N, heads * head_dim]."""
        return self.outputs(weight.T).T.contiguous()

    def rotary_table(self, table: torch.Tensor) -> torch.Tensor:
        """Return [positions, padded_dim] for cosines and sines [positions, rotated_dim]."""
        cosines, sines = table.chunk(2, dim=-1)
        still = (self.padded_dim - self.rotated_dim) // 2
        return torch.cat([F.pad(cosines, (0, still), value=1.0), F.pad(sines, (0, still))], dim=-1)

    def norm(self, query: torch.Tensor, key: torch.Tensor, eps: float) -> HeadNorm:
        """Return the norm over padded heads for weights of one head, or of all.

        The mean over a padded head has the same sum but a larger count. With eps shrunk alike,
        normed heads are too long by sqrt(padded_dim / head_dim), no more; `scale` makes up for it.
        """
        eps *= self.head_dim / self.padded_dim
        return HeadNorm(query=self.outputs(query), key=self.outputs(key), eps=eps)

    def scale(self, attention_scale: float, head_norm: HeadNorm | None) -> float:
        """Return the factor on attention's scores, for the one on scores of the model's heads."""
        excess = self.padded_dim / self.head_dim if head_norm else 1.0
        return attention_scale / excess

    def _places(self) -> torch.Tensor:
        """Return where each number of a head goes."""
        turning, still = self.rotated_dim // 2, (self.head_dim - self.rotated_dim) // 2
        first, second = torch.arange(self.padded_dim).chunk(2)
        return torch.cat(
            [
                first[:turning],
                second[:turning],
                first[turning : turning + still],
                second[turning : turning + still],
            ]
        )
