"""The frequencies of rotary position embeddings (RoPE) and their long-context scalings.

Knows the formulas. Refuses to know where the parameters were read from.
"""

from dataclasses import dataclass
from math import pi

import torch

ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Parameters of one rotary embedding, under the names of the checkpoints' config.json.

    `factor` and what follows it matter only to the kinds that scale: "linear" divides every
    frequency by it; "llama3" (Llama 3.1) divides the slow ones, keeps the fast ones and blends
    between.
    """

    kind: str
    head_dim: int
    theta: float
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192

    def inverse_frequencies(self) -> torch.Tensor:
        """Return float32 [head_dim / 2]: radians per position."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
        plain = 1.0 / self.theta**exponents
        if self.kind == "linear":
            return plain / self.factor
        if self.kind == "llama3":
            return self._blended(plain)
        return plain

    def _blended(self, plain: torch.Tensor) -> torch.Tensor:
        turns = self.original_max_positions * plain / (2 * pi)  # over the original context
        fast = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        fast = fast.clamp(0.0, 1.0)
        return (1 - fast) * plain / self.factor + fast * plain
