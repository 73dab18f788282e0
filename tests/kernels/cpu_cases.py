"""What the tests of the CPU's kernels share: the compiled library, and caches in its order."""

import ctypes
import os

import pytest
import torch

from penstock.kernels import native
from penstock.kernels.cpu import CpuOps
from penstock.kernels.reference import LayerCache

DTYPES = [torch.float32, torch.bfloat16]


def required_library() -> ctypes.CDLL:
    """The compiled kernels. Without a compiler the test is skipped at home and fails in CI."""
    library = native.cpu_library()
    if library is None:
        message = "no C++ compiler here: install g++ or set CXX"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return library


def ops_for(dtype: torch.dtype, num_threads: int = 1) -> CpuOps:
    required_library()
    ops = CpuOps.create(dtype, head_dim=64, block_size=16, num_threads=num_threads)
    assert ops is not None
    return ops


def empty_cache(
    num_blocks: int, block: int, kv_heads: int, dim: int, dtype: torch.dtype
) -> LayerCache:
    """A cache in the CPU's order, full of NaN."""
    key = torch.full((num_blocks, kv_heads, dim, block), torch.nan, dtype=dtype)
    value = torch.full((num_blocks, kv_heads, block, dim), torch.nan, dtype=dtype)
    return LayerCache(key.permute(0, 3, 1, 2), value.permute(0, 2, 1, 3))
