"""A mixture of experts gives each token what its own experts say of it, whoever else is there."""

import pytest
import torch

from penstock.engine.models.experts import MixtureOfExperts, Mlp
from penstock.kernels import reference

HIDDEN, INNER, EXPERTS = 20, 12, 6


def random_mixture(chosen: int, normalized: bool) -> MixtureOfExperts:
    torch.manual_seed(0)
    project = reference.projection
    experts = tuple(
        Mlp(
            project(torch.randn(2 * INNER, HIDDEN)),
            reference.silu_and_mul,
            project(torch.randn(HIDDEN, INNER)),
        )
        for _ in range(EXPERTS)
    )
    router = project(torch.randn(EXPERTS, HIDDEN), out_dtype=torch.float32)
    return MixtureOfExperts(router, experts, chosen, normalized)


@pytest.mark.parametrize("tokens", [0, 1, 2, 50])
@pytest.mark.parametrize("chosen", [1, 2, EXPERTS])
@pytest.mark.parametrize("normalized", [False, True])
def test_it_is_the_weighted_sum_of_the_best(tokens: int, chosen: int, normalized: bool) -> None:
    mixture = random_mixture(chosen, normalized)
    x = torch.randn(tokens, HIDDEN)
    everybody = torch.stack([expert(x) for expert in mixture.experts], dim=1)
    weights = mixture.router(x).softmax(-1)
    least = weights.sort(dim=-1, descending=True).values[:, chosen - 1 : chosen]
    weights = weights.where(weights >= least, 0.0)
    if normalized:
        weights /= weights.sum(-1, keepdim=True)
    torch.testing.assert_close(mixture(x), (weights.unsqueeze(-1) * everybody).sum(1))


def test_an_expert_nobody_chose_is_not_asked() -> None:
    mixture = random_mixture(1, normalized=True)
    asked: list[int] = []

    def counting(index: int) -> reference.Projection:
        def project(x: torch.Tensor) -> torch.Tensor:
            asked.append(index)
            return torch.zeros(x.shape[0], 2 * INNER)

        return project

    experts = tuple(Mlp(counting(i), e.activate, e.down) for i, e in enumerate(mixture.experts))
    counted = MixtureOfExperts(mixture.router, experts, 1, True)
    x = torch.randn(3, HIDDEN)
    counted(x)
    assert asked == sorted(set(mixture.router(x).argmax(-1).tolist()))


def test_company_changes_no_bit() -> None:
    mixture = random_mixture(4, normalized=True)
    x = torch.randn(40, HIDDEN)
    # One row at a time is multiplied alike in both, so all that can differ is the mixture's own.
    alone = MixtureOfExperts(
        by_row(mixture.router),
        tuple(Mlp(by_row(e.gate_up), e.activate, by_row(e.down)) for e in mixture.experts),
        4,
        True,
    )
    whole = alone(x)
    for begin, end in [(0, 1), (3, 5), (7, 40)]:
        assert torch.equal(alone(x[begin:end]), whole[begin:end])


def by_row(project: reference.Projection) -> reference.Projection:
    return lambda x: torch.cat([project(row) for row in x.split(1)]) if len(x) else project(x)
