"""The specification itself, held to transformers' own attention, rotation and norms."""

from types import SimpleNamespace

import pytest
import torch
from transformers.activations import ACT2FN
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from penstock.kernels import reference
from penstock.kernels.reference import HeadNorm, LayerCache


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


@pytest.mark.parametrize("together", [False, True])
def test_norms_of_heads(together: bool) -> None:
    heads, kv_heads, dim, tokens = 4, 2, 8, 5
    weights = [torch.randn(count * dim if together else dim) for count in (heads, kv_heads)]
    qkv = torch.randn(tokens, (heads + 2 * kv_heads) * dim)
    expected = []
    parts = qkv.split([heads * dim, kv_heads * dim, kv_heads * dim], dim=1)
    for part, weight in zip(parts, weights, strict=False):
        norm = LlamaRMSNorm(weight.shape[0], eps=1e-5)
        norm.weight.data = weight
        expected.append(norm(part.view(tokens, -1, weight.shape[0])).view(tokens, -1, dim).detach())
    cache = LayerCache(*torch.zeros(2, 1, 16, kv_heads, dim))
    still = reference.rotary_table(torch.zeros(dim // 2), 1)
    place = torch.arange(tokens)
    query = reference.rotate_and_cache(
        qkv, torch.zeros(tokens).long(), still, cache, place, HeadNorm(weights[0], weights[1], 1e-5)
    )
    torch.testing.assert_close(query, expected[0])
    torch.testing.assert_close(cache.key[0, :tokens], expected[1])
    assert torch.equal(cache.value[0, :tokens].flatten(1), qkv[:, -kv_heads * dim :])


@pytest.mark.parametrize(("ours", "theirs"), [("silu", "silu"), ("gelu", "gelu_pytorch_tanh")])
def test_gates(ours: str, theirs: str) -> None:
    gate, up = torch.randn(2, 7, 12) * 3
    found = getattr(reference, f"{ours}_and_mul")(torch.cat([gate, up], dim=-1))
    torch.testing.assert_close(found, ACT2FN[theirs](gate) * up)


def test_bound_is_done_in_place() -> None:
    x = torch.linspace(-100, 100, 41).view(1, -1)
    expected = torch.tanh(x / 30) * 30
    assert reference.bound(x, 30.0) is x
    torch.testing.assert_close(x, expected)


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


def test_softcap_is_that_of_gemma() -> None:
    length, heads, kv_heads, dim = 13, 4, 2, 8
    query, key, value = (torch.randn(length, n, dim) * 3 for n in (heads, kv_heads, kv_heads))
    cache = LayerCache(*torch.zeros(2, 1, 16, kv_heads, dim))
    reference.write_kv(key, value, cache, torch.arange(length))
    unseen = torch.full((length, length), float("-inf")).triu(1)
    module = SimpleNamespace(num_key_value_groups=heads // kv_heads, training=False)
    expected, _ = modeling_gemma2.eager_attention_forward(
        module,  # pyright: ignore[reportArgumentType]
        *(x.transpose(0, 1)[None] for x in (query, key, value)),
        attention_mask=unseen,
        scaling=0.3,
        softcap=2.0,
    )
    found = reference.paged_attention(
        query,
        cache,
        torch.tensor([0, length]).int(),
        torch.tensor([length]).int(),
        torch.tensor([[0]]).int(),
        0.3,
        softcap=2.0,
    )
    torch.testing.assert_close(found, expected[0])
