"""What stands between two halves of a layer: one gated MLP, or a mixture of them.

Knows which token goes to which expert. Refuses to know how a matrix is multiplied.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch

from ...kernels.reference import GroupedProjection, Projection


@dataclass(frozen=True, slots=True)
class Mlp:
    """down(activate(gate) * up), where `activate` takes gate and up side by side."""

    gate_up: Projection
    activate: Callable[[torch.Tensor], torch.Tensor]
    down: Projection

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return [T, hidden] for x [T, hidden]."""
        return self.down(self.activate(self.gate_up(x)))


@dataclass(frozen=True, slots=True)
class SeparateExperts:
    """One product for each expert that some token has chosen.

    How many tokens each gets is read by the host, so that a CUDA graph cannot capture it.
    """

    experts: tuple[Mlp, ...]

    def __call__(self, x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Return rows x, sorted by the experts `chosen` for them, as these make them."""
        counts = chosen.bincount(minlength=len(self.experts)).tolist()
        asked = zip(self.experts, x.split(counts), strict=True)
        return torch.cat([expert(share) for expert, share in asked if len(share)])


@dataclass(frozen=True, slots=True)
class GroupedExperts:
    """One product for all experts, which finds by itself what each of them is to do.

    The same as `SeparateExperts`, but nothing is read back: a CUDA graph can capture it.
    """

    num_experts: int
    gate_up: GroupedProjection
    activate: Callable[[torch.Tensor], torch.Tensor]
    down: GroupedProjection

    def __call__(self, x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Return rows x, sorted by the experts `chosen` for them, as these make them."""
        numbers = torch.arange(self.num_experts + 1, device=x.device)
        starts = torch.searchsorted(chosen, numbers, out_int32=True)
        return self.down(self.activate(self.gate_up(x, starts)), starts)


@dataclass(frozen=True, slots=True)
class MixtureOfExperts:
    """For each token the weighted sum of the experts that its router likes best.

    Tokens are sorted by expert, so that each expert present makes one product:

        token    0    0    1    1    2    2          two experts for each token
        expert   3    1    1    0    3    2
        sorted   1.1  0.1 1.0  2.1  0.0 2.0          token.choice, by experts 0, 1, 2 and 3

    Every choice keeps its place, and those of a token are summed one after the other (`sum` may
    choose its order by the number of tokens), so that a token's result does not depend on which
    others share its experts.

    Attributes:
        router: float32 scores [T, experts].
        normalized: whether the weights of the chosen sum to 1.
    """

    router: Projection
    experts: SeparateExperts | GroupedExperts
    num_experts_per_token: int
    normalized: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return [T, hidden] for x [T, hidden]."""
        if not len(x):
            return x
        weights, chosen = self._route(x)
        in_order, order = chosen.flatten().sort(stable=True)
        results = x.new_empty(len(order), x.shape[1])
        results[order] = self.experts(x[order // self.num_experts_per_token], in_order)
        weighted = weights.unsqueeze(-1) * results.unflatten(0, chosen.shape)
        return reduce(torch.add, weighted.unbind(1)).to(x.dtype)

    def _route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weights and indices of the chosen experts, both [T, chosen], best first."""
        weights, chosen = self.router(x).softmax(-1).topk(self.num_experts_per_token)
        if self.normalized:
            weights = weights / reduce(torch.add, weights.unbind(1)).unsqueeze(1)
        return weights, chosen
