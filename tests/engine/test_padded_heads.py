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
    table = reference.rotary_table(layout.frequencies(weights["frequencies"]), TOKENS)
    norm = None if eps is None else layout.norm(weights["query_norm"], weights["key_norm"], eps)
    place = torch.arange(TOKENS)
    query = reference.rotate_and_cache(qkv, place, table, cache, 16 + place, norm)
    attended = reference.paged_attention(
        query,
        cache,
        torch.tensor([0, TOKENS]).int(),
        torch.tensor([TOKENS]).int(),
        torch.tensor([[1]]).int(),
        layout.scale(norm),
    )
    return reference.projection(layout.inputs(weights["output"]))(attended.flatten(1))


@pytest.mark.parametrize("eps", [None, 1e-6, 0.5])
@pytest.mark.parametrize(("head_dim", "padded_dim"), [(8, 16), (24, 32), (6, 32)])
def test_padding_changes_nothing(head_dim: int, padded_dim: int, eps: float | None) -> None:
    torch.manual_seed(0)
    outputs = (HEADS + 2 * KV_HEADS) * head_dim
    weights = {
        "x": torch.randn(TOKENS, HIDDEN),
        "qkv": torch.randn(outputs, HIDDEN) / HIDDEN**0.5,
        "bias": torch.randn(outputs),
        "output": torch.randn(HIDDEN, HEADS * head_dim),
        "query_norm": torch.randn(head_dim),
        "key_norm": torch.randn(head_dim),
        "frequencies": torch.rand(head_dim // 2),
    }
    expected = attend(PaddedHeads(head_dim, head_dim), weights, eps)
    found = attend(PaddedHeads(head_dim, padded_dim), weights, eps)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
