"""A mixture of experts gives each token what its own experts say of it, whoever else is there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from penstock.engine.models.experts import (
    GroupedExperts,
    MixtureOfExperts,
    Mlp,
    SeparateExperts,
)
from penstock.kernels import reference, triton_experts

HIDDEN, INNER, EXPERTS = 20, 12, 6


def random_mlps() -> tuple[Mlp, ...]:
    project, activate = reference.projection, reference.silu_and_mul
    pairs = zip(*random_weights(), strict=True)
    return tuple(Mlp(project(gate_up), activate, project(down)) for gate_up, down in pairs)


def random_weights() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(EXPERTS, 2 * INNER, HIDDEN), torch.randn(EXPERTS, HIDDEN, INNER)


def grouped(project: Callable[[torch.Tensor], reference.GroupedProjection]) -> GroupedExperts:
    gate_up, down = map(project, random_weights())
    return GroupedExperts(EXPERTS, gate_up, reference.silu_and_mul, down)


def router() -> reference.Projection:
    torch.manual_seed(1)
    return reference.projection(torch.randn(EXPERTS, HIDDEN), out_dtype=torch.float32)


def random_mixture(chosen: int, normalized: bool) -> MixtureOfExperts:
    return MixtureOfExperts(router(), SeparateExperts(random_mlps()), chosen, normalized)


@pytest.mark.parametrize("tokens", [0, 1, 2, 50])
@pytest.mark.parametrize("chosen", [1, 2, EXPERTS])
@pytest.mark.parametrize("normalized", [False, True])
def test_it_is_the_weighted_sum_of_the_best(tokens: int, chosen: int, normalized: bool) -> None:
    mixture = random_mixture(chosen, normalized)
    x = torch.randn(tokens, HIDDEN)
    everybody = torch.stack([expert(x) for expert in random_mlps()], dim=1)
    weights = mixture.router(x).softmax(-1)
    least = weights.sort(dim=-1, descending=True).values[:, chosen - 1 : chosen]
    weights = weights.where(weights >= least, 0.0)
    if normalized:
        weights /= weights.sum(-1, keepdim=True)
    torch.testing.assert_close(mixture(x), (weights.unsqueeze(-1) * everybody).sum(1))


@pytest.mark.parametrize(
    "project",
    [reference.grouped_projection, triton_experts.grouped_projection],
    ids=["reference", "triton"],
)
@pytest.mark.parametrize("tokens", [1, 2, 50, 400])
def test_experts_may_be_one_product(
    tokens: int, project: Callable[[torch.Tensor], reference.GroupedProjection]
) -> None:
    """With experts that nobody has chosen, tiles that are full and tiles that are not."""
    x = torch.randn(tokens, HIDDEN)
    separate = random_mixture(2, normalized=True)
    together = replace(separate, experts=grouped(project))
    torch.testing.assert_close(together(x), separate(x), atol=1e-4, rtol=1e-4)


def test_one_product_for_all_reads_nothing_back() -> None:
    """What a CUDA graph captures may not look at a tensor's numbers."""
    gate_up, down = random_weights()

    def product(weights: torch.Tensor) -> reference.GroupedProjection:
        return lambda x, starts: x.new_zeros(x.shape[0], weights.shape[1])  # a kernel's shapes

    experts = GroupedExperts(EXPERTS, product(gate_up), reference.silu_and_mul, product(down))
    mixture = MixtureOfExperts(router(), experts, 2, True)
    with NoLooking():
        assert mixture(torch.randn(7, HIDDEN)).shape == (7, HIDDEN)
    with pytest.raises(RuntimeError, match="looked at"), NoLooking():
        random_mixture(2, normalized=True)(torch.randn(7, HIDDEN))


class NoLooking(TorchDispatchMode):
    """Fails where the host wants a tensor's numbers, or a size that depends on them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "bincount"):
            raise RuntimeError(f"{func} looked at numbers")
        return func(*args, **(kwargs or {}))


def test_an_expert_nobody_chose_is_not_asked() -> None:
    mixture = random_mixture(1, normalized=True)
    asked: list[int] = []

    def counting(index: int) -> reference.Projection:
        def project(x: torch.Tensor) -> torch.Tensor:
            asked.append(index)
            return torch.zeros(x.shape[0], 2 * INNER)

        return project

    experts = tuple(Mlp(counting(i), e.activate, e.down) for i, e in enumerate(random_mlps()))
    counted = MixtureOfExperts(mixture.router, SeparateExperts(experts), 1, True)
    x = torch.randn(3, HIDDEN)
    counted(x)
    assert asked == sorted(set(mixture.router(x).argmax(-1).tolist()))


def test_company_changes_no_bit() -> None:
    mixture = random_mixture(4, normalized=True)
    x = torch.randn(40, HIDDEN)
    # One row at a time is multiplied alike in both, so all that can differ is the mixture's own.
    alone = MixtureOfExperts(
        by_row(mixture.router),
        SeparateExperts(
            tuple(Mlp(by_row(e.gate_up), e.activate, by_row(e.down)) for e in random_mlps())
        ),
        4,
        True,
    )
    whole = alone(x)
    for begin, end in [(0, 1), (3, 5), (7, 40)]:
        assert torch.equal(alone(x[begin:end]), whole[begin:end])


def by_row(project: reference.Projection) -> reference.Projection:
    return lambda x: torch.cat([project(row) for row in x.split(1)]) if len(x) else project(x)
