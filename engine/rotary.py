"""The frequencies of rotary position embeddings (RoPE) and their long-context scalings.

Knows the formulas and what config.json calls their parameters. Refuses to know files and models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, log, pi, sqrt
from typing import Any

import torch

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Parameters of one rotary embedding, under the names of the checkpoints' config.json.

    What follows `max_positions` matters only to the kinds that scale:

        linear    divides every frequency by `factor`
        dynamic   is "default" up to `max_positions`, where the engine stops anyway
        llama3    divides the slow ones, keeps the fast ones and blends between (Llama 3.1)
        yarn      the same with other borders (arXiv 2309.00071), and longer vectors
        longrope  divides each frequency by a factor of its own, longer vectors too (Phi-3)

    Attributes:
        rotated_dim: how many numbers of a head turn, the first ones.
        max_positions: the model's context.
        original_max_positions: the context it was trained with before it was extended.
    """

    kind: str
    rotated_dim: int
    theta: float
    max_positions: int
    factor: float = 1.0
    original_max_positions: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    def inverse_frequencies(self, num_positions: int) -> torch.Tensor:
        """Return float32 [rotated_dim / 2]: radians per position.

        LongRoPE has frequencies for texts within the original context and others for longer ones.
        They must not change while a text grows, for its cached keys are turned already, so what
        counts is the longest text there can be: `num_positions`.
        """
        exponents = torch.arange(0, self.rotated_dim, 2, dtype=torch.float32) / self.rotated_dim
        periods = self.theta**exponents
        plain = 1.0 / periods
        if self.kind == "linear":
            return plain / self.factor
        if self.kind == "llama3":
            return self._blended(plain)
        if self.kind == "yarn":
            return self._ramped(periods)
        if self.kind == "longrope":
            long = num_positions > self.original_max_positions
            return 1.0 / (torch.tensor(self.long_factor if long else self.short_factor) * periods)
        return plain

    @property
    def amplitude(self) -> float:
        """What turned vectors are multiplied by."""
        if self.attention_factor is not None and self.kind in ("yarn", "longrope"):
            return self.attention_factor
        if self.kind == "yarn" and self.mscale and self.mscale_all_dim:
            return self._mscaled(self.mscale) / self._mscaled(self.mscale_all_dim)
        if self.kind == "yarn":
            return self._mscaled(1.0)
        if self.kind == "longrope" and self.factor > 1.0:
            return sqrt(1 + log(self.factor) / log(self.original_max_positions))
        return 1.0

    def _mscaled(self, mscale: float) -> float:
        return 0.1 * mscale * log(self.factor) + 1.0 if self.factor > 1.0 else 1.0

    def _blended(self, plain: torch.Tensor) -> torch.Tensor:
        turns = self.original_max_positions * plain / (2 * pi)  # over the original context
        fast = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        fast = fast.clamp(0.0, 1.0)
        return (1 - fast) * plain / self.factor + fast * plain

    def _ramped(self, periods: torch.Tensor) -> torch.Tensor:
        first, last = self._place(self.beta_fast), self._place(self.beta_slow)
        if self.truncate:
            first, last = floor(first), ceil(last)
        first, last = max(first, 0), min(last, self.rotated_dim - 1)
        width = last - first or 0.001
        slow = (torch.arange(self.rotated_dim // 2, dtype=torch.float32) - first) / width
        fast = 1 - slow.clamp(0.0, 1.0)
        return (1 - fast) / (self.factor * periods) + fast / periods

    def _place(self, turns: float) -> float:
        """Return which frequency turns so often over the original context."""
        wavelength = self.original_max_positions / (turns * 2 * pi)
        return self.rotated_dim * log(wavelength) / (2 * log(self.theta))


def read_rope(
    parameters: Mapping[str, Any],
    head_dim: int,
    max_positions: int,
    original_max_positions: int | None = None,
) -> Rope:
    """Return the embedding that config.json's `rope_parameters` describe.

    Args:
        parameters: the dictionary, in the spelling of version 5 of transformers or the older one.
        head_dim: the size of a head.
        max_positions: the model's `max_position_embeddings`.
        original_max_positions: what stands beside the dictionary, if anything does.

    Raises:
        ValueError: of a kind that is not ours, or with parameters missing or impossible.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise ValueError(f"rope_type must be one of {', '.join(ROPE_TYPES)}, got {kind!r}")
    rotated_dim = int(head_dim * (parameters.get("partial_rotary_factor") or 1.0))
    if rotated_dim < 2 or rotated_dim % 2 or rotated_dim > head_dim:
        raise ValueError(
            f"partial_rotary_factor must turn an even number of {head_dim} dimensions, "
            f"got {parameters.get('partial_rotary_factor')}, which turns {rotated_dim}"
        )
    original = parameters.get("original_max_position_embeddings") or original_max_positions
    original = int(original or max_positions)
    factor = parameters.get("factor")
    if factor is None and kind in ("linear", "llama3"):
        raise ValueError(f"rope_type {kind!r} needs a factor, got none")
    rope = Rope(
        kind=kind,
        rotated_dim=rotated_dim,
        theta=float(parameters["rope_theta"]),
        max_positions=max_positions,
        factor=float(factor or max_positions / original),
        original_max_positions=original,
        low_freq_factor=float(parameters.get("low_freq_factor") or 1.0),
        high_freq_factor=float(parameters.get("high_freq_factor") or 4.0),
        attention_factor=_number_or_none(parameters.get("attention_factor")),
        mscale=_number_or_none(parameters.get("mscale")),
        mscale_all_dim=_number_or_none(parameters.get("mscale_all_dim")),
        beta_fast=float(parameters.get("beta_fast") or 32.0),
        beta_slow=float(parameters.get("beta_slow") or 1.0),
        truncate=bool(parameters.get("truncate", True)),
        short_factor=tuple(parameters.get("short_factor") or ()),
        long_factor=tuple(parameters.get("long_factor") or ()),
    )
    if kind == "longrope" and {len(rope.short_factor), len(rope.long_factor)} != {rotated_dim // 2}:
        raise ValueError(
            f"longrope needs {rotated_dim // 2} numbers in short_factor and in long_factor, "
            f"got {len(rope.short_factor)} and {len(rope.long_factor)}"
        )
    return rope


def _number_or_none(value: Any) -> float | None:
    return None if value is None else float(value)
