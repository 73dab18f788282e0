"""Norms, activations, and rotation with its writes to the cache agree with their twins."""

from dataclasses import replace

import pytest
import torch

from penstock.kernels import reference, triton_elementwise
from penstock.kernels.reference import HeadNorm, LayerCache
from penstock.kernels.triton_rotary import rotate_and_cache
from tests.kernels.cases import assert_agree
from tests.kernels.triton_cases import ELEMENTWISE_DTYPES, ON_GPU

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize("dtype", ELEMENTWISE_DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 16), (3, 30), (2, 896)])
def test_norms(dtype: torch.dtype, rows: int, size: int) -> None:
    x, residual = torch.randn(2, rows, size, dtype=dtype)
    weight = torch.randn(size)
    expected = reference.rms_norm(x, weight, 1e-5)
    assert_agree(triton_elementwise.rms_norm(x, weight, 1e-5), expected)
    stream = residual.clone()
    found = triton_elementwise.add_rms_norm(x, stream, weight, 1e-5)
    assert_agree(found, reference.add_rms_norm(x, residual, weight, 1e-5))
    assert_agree(stream, residual)


@pytest.mark.parametrize("dtype", ELEMENTWISE_DTYPES)
@pytest.mark.parametrize("size", [8, 1025])
def test_activations(dtype: torch.dtype, size: int) -> None:
    gate_up = 4 * torch.randn(3, 2 * size, dtype=dtype)
    gate_up[0, :3] = torch.tensor([-200.0, 200.0, -20.0])
    for name in ("silu_and_mul", "gelu_and_mul"):
        found = getattr(triton_elementwise, name)(gate_up)
        assert_agree(found, getattr(reference, name)(gate_up))


def caches(kv_heads: int, dim: int, dtype: torch.dtype) -> tuple[LayerCache, LayerCache]:
    """Two equal caches, slices of larger storages, of numbers that are easily missed."""
    storages = torch.full((2, 4, 3, 2, 16, kv_heads, dim), 7.0).to(dtype)
    ours, theirs = (LayerCache(storage[:, 1, 0], storage[:, 1, 1]) for storage in storages)
    return ours, theirs


@pytest.mark.parametrize("dtype", ELEMENTWISE_DTYPES)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(1, 1, 16), (14, 2, 64), (6, 2, 80), (40, 8, 128)]
)
def test_rotation(dtype: torch.dtype, normed: bool, heads: int, kv_heads: int, dim: int) -> None:
    qkv = torch.randn(3, (heads + 2 * kv_heads) * dim, dtype=dtype)
    positions, slots = torch.tensor([0, 9, 33]), torch.tensor([63, -1, 17])
    table = reference.rotary_table(1e4 ** -(torch.arange(0, dim, 2) / dim), 40)
    norm = HeadNorm(torch.randn(dim), torch.randn(dim), 1e-6) if normed else None
    ours, theirs = caches(kv_heads, dim, dtype)
    found = rotate_and_cache(qkv, positions, table, ours, slots, norm)
    assert_agree(found, reference.rotate_and_cache(qkv, positions, table, theirs, slots, norm))
    assert_agree(ours.key, theirs.key)
    assert torch.equal(ours.value, theirs.value)


def test_keys_and_values_in_eight_bits() -> None:
    """With numbers that eight bits hold, for the interpreter rounds others as no GPU does."""
    heads, kv_heads, dim = 2, 1, 32
    qkv = torch.randint(-15, 16, (3, (heads + 2 * kv_heads) * dim)).float()
    qkv[0, -5:] = 1e4  # past what eight bits hold
    qkv[0, -dim : 5 - dim] = -1e4
    if ON_GPU:  # the interpreter makes a number of it
        qkv[2, -3:] = torch.nan
    positions, slots = torch.zeros(3, dtype=torch.int64), torch.tensor([63, -1, 17])
    table = reference.rotary_table(1e4 ** -(torch.arange(0, dim, 2) / dim), 40)
    ours, theirs = (
        replace(cache, key_scale=0.5, value_scale=0.25)
        for cache in caches(kv_heads, dim, torch.float8_e4m3fn)
    )
    wide, _ = caches(kv_heads, dim, torch.float32)
    rotate_and_cache(qkv, positions, table, ours, slots)
    reference.rotate_and_cache(qkv, positions, table, theirs, slots)
    reference.rotate_and_cache(qkv, positions, table, wide, slots)
    same = {"atol": 0, "rtol": 0, "equal_nan": True}
    for name, scale in [("key", 0.5), ("value", 0.25)]:
        exact = getattr(wide, name)
        written = torch.zeros(exact.shape, dtype=torch.bool)
        written.flatten(0, 1)[[63, 17]] = True
        expected = (exact / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float()
        for cache in (ours, theirs):
            found = getattr(cache, name).float()
            torch.testing.assert_close(found[written], expected[written], **same)
            assert (found[~written] == 7.0).all()


def test_norms_over_all_heads_are_refused() -> None:
    cache, _ = caches(1, 16, torch.float32)
    norm = HeadNorm(torch.ones(32), torch.ones(16), 1e-6)
    one, table = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 16)
    with pytest.raises(ValueError, match="norms must be over single heads of 16, got 32 weights"):
        rotate_and_cache(torch.zeros(1, 64), one, table, cache, one, norm)
