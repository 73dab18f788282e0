"""Memory in huge pages is a tensor like any other."""

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from penstock.kernels.huge_pages import empty_for_results, empty_in_huge_pages


@pytest.mark.parametrize("allocate", [empty_in_huge_pages, empty_for_results])
@pytest.mark.parametrize("shape", [(0,), (3, 5), (2, 2**20 + 1), (7, 2**19), (5, 7 * 2**20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_every_element_holds_what_is_written(
    allocate: Callable[[Sequence[int], torch.dtype], torch.Tensor],
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> None:
    tensor = allocate(shape, dtype)
    assert (tensor.shape, tensor.dtype) == (shape, dtype)
    assert tensor.is_contiguous()
    values = torch.arange(tensor.numel()).view(shape).to(dtype)
    assert torch.equal(tensor.copy_(values), values)


def test_large_memory_begins_at_a_page_and_is_given_back() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux tells")
    before = resident_bytes()
    tensor = empty_in_huge_pages((2**26,), torch.uint8).fill_(1)
    assert tensor.data_ptr() % 2**21 == 0
    part = tensor[5:]
    del tensor
    assert resident_bytes() - before > 2**25
    del part
    assert resident_bytes() - before < 2**25
