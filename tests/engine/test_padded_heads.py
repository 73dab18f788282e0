"""Attention over padded heads is attention over the heads themselves."""

import pytest
import torch

from penstock.engine.models.padded_heads import PaddedHeads
from penstock.kernels import reference
from penstock.kernels.reference import LayerCache

HEADS, KV_HEADS, HIDDEN, TOKENS = 4, 2, 20, 9
Weights = dict[str, torch.Tensor]


def attend(layout: PaddedHeads, weights: Weights, eps: float | None) -> torch.Tensor:
    """Self-attention of nine tokens, from the hidden state to the hidden state."""
    weight = layout.outputs(weights["qkv"])
    qkv = reference.projection(weight, layout.outputs(weights["bias"]))(weights["x"])
    cache = LayerCache(*torch.zeros(2, 2, 16, KV_HEADS, layout.padded_dim))
    table = layout.rotary_table(reference.rotary_table(weights["frequencies"], TOKENS, 1.1))
    norm = None if eps is None else layout.norm(weights["query_norm"], weights["key_norm"], eps)
    place = torch.arange(TOKENS)
    query = reference.rotate_and_cache(qkv, place, table, cache, 16 + place, norm)
    attended = reference.paged_attention(
        query,
        cache,
        torch.tensor([0, TOKENS]).int(),
        torch.tensor([TOKENS]).int(),
        torch.tensor([[1]]).int(),
        layout.scale(0.3, norm),
        softcap=2.0,
    )
    return reference.projection(layout.inputs(weights["output"]))(attended.flatten(1))


@pytest.mark.parametrize("eps", [None, 1e-6, 0.5])
@pytest.mark.parametrize("normed_together", [False, True])
@pytest.mark.parametrize(("head_dim", "padded_dim"), [(8, 16), (24, 32), (6, 32)])
def test_padding_changes_nothing(
    head_dim: int, padded_dim: int, normed_together: bool, eps: float | None
) -> None:
    weights = random_weights(head_dim, head_dim, normed_together)
    expected = attend(PaddedHeads(head_dim, head_dim, head_dim), weights, eps)
    found = attend(PaddedHeads(head_dim, padded_dim, head_dim), weights, eps)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("eps", [None, 1e-6])
@pytest.mark.parametrize(
    ("head_dim", "rotated_dim", "padded_dim"), [(8, 4, 8), (8, 6, 16), (24, 18, 32), (16, 2, 16)]
)
def test_the_rest_of_a_head_stays_as_it_is(
    head_dim: int, rotated_dim: int, padded_dim: int, eps: float | None
) -> None:
    weights = random_weights(head_dim, rotated_dim, normed_together=False)
    layout = PaddedHeads(head_dim, padded_dim, rotated_dim)
    found = turned_heads(layout, weights, eps)
    plain = turned_heads(PaddedHeads(head_dim, head_dim, head_dim), weights, eps, turn=False)
    table = reference.rotary_table(weights["frequencies"], TOKENS, 1.1)
    first = reference.apply_rotary(plain[..., :rotated_dim], torch.arange(TOKENS), table)
    expected = torch.cat([first, plain[..., rotated_dim:]], dim=-1)
    if eps is not None:
        expected *= (padded_dim / head_dim) ** 0.5
    torch.testing.assert_close(found[..., layout._places()], expected, atol=1e-5, rtol=1e-5)


def turned_heads(
    layout: PaddedHeads, weights: Weights, eps: float | None, turn: bool = True
) -> torch.Tensor:
    """The queries of nine tokens, in the layout's places."""
    weight = layout.outputs(weights["qkv"])
    qkv = reference.projection(weight, layout.outputs(weights["bias"]))(weights["x"])
    cache = LayerCache(*torch.zeros(2, 2, 16, KV_HEADS, layout.padded_dim))
    frequencies = weights["frequencies"] if turn else torch.zeros(layout.rotated_dim // 2)
    table = layout.rotary_table(reference.rotary_table(frequencies, TOKENS, 1.1 if turn else 1.0))
    norm = None if eps is None else layout.norm(weights["query_norm"], weights["key_norm"], eps)
    place = torch.arange(TOKENS)
    return reference.rotate_and_cache(qkv, place, table, cache, 16 + place, norm)


def random_weights(head_dim: int, rotated_dim: int, normed_together: bool) -> Weights:
    torch.manual_seed(0)
    outputs = (HEADS + 2 * KV_HEADS) * head_dim
    return {
        "x": torch.randn(TOKENS, HIDDEN),
        "qkv": torch.randn(outputs, HIDDEN) / HIDDEN**0.5,
        "bias": torch.randn(outputs),
        "output": torch.randn(HIDDEN, HEADS * head_dim),
        "query_norm": torch.randn(HEADS * head_dim if normed_together else head_dim),
        "key_norm": torch.randn(KV_HEADS * head_dim if normed_together else head_dim),
        "frequencies": torch.rand(rotated_dim // 2),
    }
