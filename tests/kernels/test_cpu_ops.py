"""The CPU kernels agree with their PyTorch twins, and a row's bits do not depend on its company."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from penstock.kernels import reference
from penstock.kernels.cpu import CpuOps
from penstock.kernels.ops import choose_ops, pytorch_threads
from penstock.kernels.reference import HeadNorm, LayerCache
from tests.kernels.cases import assert_agree, assert_faults_are_seen, attention_case
from tests.kernels.cpu_cases import DTYPES, empty_cache, ops_for, required_library

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "size"), [(1, 16), (3, 64), (5, 100), (40, 7), (300, 288)])
def test_norms_and_gate(dtype: torch.dtype, rows: int, size: int) -> None:
    ops = ops_for(dtype)
    x, weight = torch.randn(rows, size, dtype=dtype) * 3, torch.randn(size)
    assert_agree(ops.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6))
    ours, theirs = torch.randn(rows, size, dtype=dtype).expand(2, -1, -1).contiguous()
    found = ops.add_rms_norm(x, ours, weight, 1e-6)
    assert_agree(found, reference.add_rms_norm(x, theirs, weight, 1e-6))
    torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    gate_up = torch.randn(rows, 2 * size, dtype=dtype) * 20
    assert_agree(ops.silu_and_mul(gate_up), reference.silu_and_mul(gate_up))
    assert_agree(ops.gelu_and_mul(gate_up), reference.gelu_and_mul(gate_up))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normed", ["no heads", "each head", "all heads"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(1, 1, 16), (4, 2, 48), (14, 2, 64), (3, 3, 256)]
)
def test_rotate_and_cache(
    dtype: torch.dtype, normed: str, heads: int, kv_heads: int, dim: int
) -> None:
    tokens = 9
    qkv = torch.randn(tokens, (heads + 2 * kv_heads) * dim, dtype=dtype)
    positions = torch.randint(0, 200, (tokens,))
    table = reference.rotary_table(1e4 ** -torch.linspace(0, 1, dim // 2), 200)
    slots = torch.tensor([17, 0, -1, 31, 5, -1, 47, 30, 16])
    norm = None
    if normed == "each head":
        norm = HeadNorm(torch.randn(dim), torch.randn(dim), 1e-6)
    elif normed == "all heads":
        norm = HeadNorm(torch.randn(heads * dim), torch.randn(kv_heads * dim), 1e-6)
    caches = [empty_cache(4, 16, kv_heads, dim, dtype) for _ in range(2)]
    found = ops_for(dtype).rotate_and_cache(qkv, positions, table, caches[0], slots, norm)
    expected = reference.rotate_and_cache(qkv, positions, table, caches[1], slots, norm)
    assert_agree(found, expected)
    for ours, theirs in (
        (caches[0].key, caches[1].key),
        (caches[0].value, caches[1].value),
    ):
        # NaN where nothing was written, in both: the skipped slots touched nothing.
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2, equal_nan=True)
        assert ours.isnan().any()


def case_of(
    rows: list[tuple[int, int]], heads: int, kv_heads: int, dim: int, dtype: torch.dtype, block: int
) -> dict[str, Any]:
    return attention_case(rows, heads, kv_heads, dim, dtype, block, empty_cache=empty_cache)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("window", "softcap"), [(None, None), (1, None), (20, None), (300, 3.0), (None, 0.5)]
)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "block"),
    [
        (1, 1, 16, 16),
        (4, 4, 48, 16),
        (14, 2, 64, 16),
        (8, 2, 80, 32),
        (16, 1, 128, 16),
        (4, 1, 256, 16),
    ],
)
def test_paged_attention(
    dtype: torch.dtype,
    window: int | None,
    softcap: float | None,
    heads: int,
    kv_heads: int,
    dim: int,
    block: int,
) -> None:
    rows = [(1, 1), (1, 15), (1, 16), (1, 17), (5, 5), (3, 40), (30, 30), (1, 600), (20, 530)]
    case = case_of(rows, heads, kv_heads, dim, dtype, block)
    options: dict[str, Any] = {"sliding_window": window, "softcap": softcap}
    found = ops_for(dtype).paged_attention(**case, **options)
    assert_agree(found, reference.paged_attention(**case, **options))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 16, 263])
@pytest.mark.parametrize("limit", [0.5, 30.0])
def test_bound(dtype: torch.dtype, size: int, limit: float) -> None:
    x = torch.randn(40, size) * 20
    x[0, 0], x[1, 0], x[2, 0] = torch.nan, torch.inf, -torch.inf
    expected, found = reference.bound(x.clone(), limit), ops_for(dtype).bound(x.clone(), limit)
    torch.testing.assert_close(found, expected, atol=1e-6 * limit, rtol=1e-6, equal_nan=True)
    assert torch.equal(ops_for(dtype).bound(x[7:8], limit), found[7:8])
    assert torch.equal(x[7:8], found[7:8])  # it is done in place


def test_what_must_be_float32_is_named() -> None:
    ops, x = ops_for(torch.bfloat16), torch.randn(2, 16, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"a norm's weight must be float32, got torch.bfloat16"):
        ops.rms_norm(x, x[0], 1e-6)
    with pytest.raises(ValueError, match=r"what is bound must be float32, got torch.bfloat16"):
        ops.bound(x, 30.0)


@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (7, 1), (16, 1)])
def test_attention_of_a_token_has_the_same_bits_in_any_chunk(
    heads: int, kv_heads: int, window: int | None
) -> None:
    ops = ops_for(torch.float32)
    case = case_of([(600, 600)], heads, kv_heads, 32, torch.float32, 16)
    whole = ops.paged_attention(**case, sliding_window=window)
    for begin, end in [(0, 1), (0, 7), (255, 256), (256, 260), (300, 599), (599, 600)]:
        part: dict[str, Any] = case | {
            "query": case["query"][begin:end].contiguous(),
            "query_start": torch.tensor([0, end - begin]).int(),
            "context_lens": torch.tensor([end]).int(),
        }
        found = ops.paged_attention(**part, sliding_window=window)
        assert torch.equal(found, whole[begin:end])


def test_threads_change_no_bits() -> None:
    case = case_of([(1, 500)] * 20, 4, 2, 32, torch.float32, 16)
    weight, x = torch.randn(640, 320), torch.randn(50, 320)
    results = []
    for threads in (1, 3):
        ops = ops_for(torch.float32, threads)
        results.append((ops.projection(weight)(x), ops.paged_attention(**case)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_cache_in_another_order_is_refused() -> None:
    plain = torch.zeros(4, 16, 2, 16)
    case = case_of([(1, 5)], 2, 2, 16, torch.float32, 16)
    case["cache"] = LayerCache(plain, plain)
    with pytest.raises(ValueError, match="the CPU kernels read keys as"):
        ops_for(torch.float32).paged_attention(**case)


@pytest.mark.parametrize(
    ("dtype", "head_dim", "block_size"),
    [
        (torch.float16, 64, 16),
        (torch.float32, 264, 16),
        (torch.float32, 512, 16),
        (torch.float32, 64, 8),
    ],
)
def test_shapes_the_kernels_lack_go_to_pytorch(
    dtype: torch.dtype, head_dim: int, block_size: int
) -> None:
    assert choose_ops(torch.device("cpu"), dtype, head_dim, block_size, 1) is reference


@pytest.mark.parametrize(
    ("head_dim", "padded"), [(8, 16), (16, 16), (24, 32), (80, 80), (104, 112), (250, 256)]
)
def test_heads_of_other_sizes_are_padded(head_dim: int, padded: int) -> None:
    assert reference.padded_head_dim(head_dim) == head_dim
    required_library()
    ops = choose_ops(torch.device("cpu"), torch.float32, head_dim, 16, 1)
    assert isinstance(ops, CpuOps)
    assert ops.padded_head_dim(head_dim) == padded


def test_heads_that_share_no_key_head_are_refused() -> None:
    case = case_of([(1, 5)], 2, 2, 16, torch.float32, 16)
    case["query"] = torch.randn(1, 3, 16)
    with pytest.raises(ValueError, match="must be a multiple of the 2 key-value heads, got 3"):
        ops_for(torch.float32).paged_attention(**case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf, 3e38])
@pytest.mark.parametrize("places", [[0], [15], [16, 17], [300], [599], range(256), range(600)])
def test_keys_that_are_no_numbers_are_seen(
    dtype: torch.dtype, fault: float, places: Sequence[int]
) -> None:
    case = case_of([(30, 600), (5, 40)], 6, 2, 32, dtype, 16)
    assert_faults_are_seen(ops_for(dtype).paged_attention, case, places, fault)


@pytest.mark.parametrize(("missing", "rows"), [("threads", 3000), ("list of tiles", 200_000)])
def test_a_lack_of_memory_costs_speed_only(missing: str, rows: int) -> None:
    """C++ throws where a thread's stack or a long list finds no room; Python must not see it."""
    required_library()
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY, str(rows)], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout.strip()) == (0, "as expected"), (missing, run.stderr)


WITHOUT_MEMORY = """
import resource, sys
import numpy as np
from penstock.kernels.cpu import _SIGNATURES
from penstock.kernels.native import cpu_library

rows, dim, threads = int(sys.argv[1]), 16, 3
attend = cpu_library().paged_attention_float32
attend.argtypes, attend.restype = _SIGNATURES["paged_attention"], None
query, out = np.ones((2, rows, dim), np.float32)
keys, values = np.ones((2, dim * 16), np.float32)
starts = np.arange(rows + 1, dtype=np.int32)
lengths, tables = np.ones(rows, np.int32), np.zeros(rows, np.int32)
pointers = [a.ctypes.data for a in (query, keys, values, starts, lengths, tables, out)]
values[:], out[:] = 7.0, 0.0
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), -1))
attend(*pointers, rows, 1, 1, 1, dim, 16, dim * 16, 1.0, 0, 0.0, threads)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print("as expected" if (out == 7.0).all() else out)
"""


def test_a_cache_of_unpadded_heads_is_refused() -> None:
    case = case_of([(1, 5)], 2, 2, 24, torch.float32, 16)
    with pytest.raises(ValueError, match="head_dim must be a multiple of 16 in the cache, got 24"):
        ops_for(torch.float32).paged_attention(**case)


def test_pytorch_threads() -> None:
    ours = ops_for(torch.float32, num_threads=4)
    small, large = 10**6, 10**9
    assert pytorch_threads(ours, large, 4) == 1
    assert pytorch_threads(reference, small, 4) == 1
    assert pytorch_threads(reference, large, 4) == 4
