"""The specification itself, held to transformers' own attention, rotation and norms."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from penstock.kernels import reference
from penstock.kernels.reference import LayerCache


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_rms_norm() -> None:
    norm = LlamaRMSNorm(24, eps=1e-5)
    norm.weight.data.normal_()
    x = torch.randn(5, 24)
    torch.testing.assert_close(reference.rms_norm(x, norm.weight.data, 1e-5), norm(x).detach())
    residual = torch.randn(5, 24)
    expected = norm(x + residual).detach()
    torch.testing.assert_close(
        reference.add_rms_norm(x, residual, norm.weight.data, 1e-5), expected
    )


def test_rotation() -> None:
    frequencies = 1e4 ** -(torch.arange(0, 32, 2) / 32)
    table = reference.rotary_table(frequencies, 100)
    positions = torch.tensor([0, 1, 50, 99])
    query, key = torch.randn(2, 4, 3, 32)
    angles = torch.outer(positions.float(), frequencies)
    cosines, sines = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
    expected, _ = apply_rotary_pos_emb(
        query.transpose(0, 1)[None], key.transpose(0, 1)[None], cosines[None], sines[None]
    )
    found = reference.apply_rotary(query, positions, table)
    torch.testing.assert_close(found, expected[0].transpose(0, 1))


def test_what_is_written_is_found_and_minus_one_is_nowhere() -> None:
    cache = LayerCache(torch.zeros(3, 4, 2, 8), torch.zeros(3, 4, 2, 8))
    key, value = torch.randn(2, 3, 2, 8)
    reference.write_kv(key, value, cache, torch.tensor([9, -1, 4]))
    torch.testing.assert_close(cache.key.flatten(0, 1)[[9, 4]], key[[0, 2]])
    torch.testing.assert_close(cache.value.flatten(0, 1)[[9, 4]], value[[0, 2]])
    assert cache.key.flatten(0, 1)[[0, 1, 2, 3, 5, 6, 7, 8, 10, 11]].abs().sum() == 0


@pytest.mark.parametrize("window", [None, 5])
def test_paged_attention_is_dense_attention(window: int | None) -> None:
    length, heads, kv_heads, dim = 21, 4, 2, 8
    key, value = torch.randn(2, length, kv_heads, dim)
    query = torch.randn(length, heads, dim)
    cache = LayerCache(*torch.full((2, 9, 4, kv_heads, dim), float("nan")))
    table = torch.tensor([[7, 2, 8, 1, 5, 3]], dtype=torch.int32)
    place = torch.arange(length)
    reference.write_kv(key, value, cache, table[0].long()[place // 4] * 4 + place % 4)

    seen = place[None] <= place[:, None]
    if window:
        seen &= place[None] > place[:, None] - window
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(0, 1)[None] for x in (query, key, value)),
        attn_mask=seen,
        scale=0.3,
        enable_gqa=True,
    )[0].transpose(0, 1)
    for queries in (length, 6, 1):
        found = reference.paged_attention(
            query[-queries:],
            cache,
            torch.tensor([0, queries]).int(),
            torch.tensor([length]).int(),
            table,
            0.3,
            window,
        )
        torch.testing.assert_close(found, expected[-queries:])
