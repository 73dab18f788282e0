"""The two states in which kernels are tested."""

from collections.abc import Iterator

import pytest
import torch

from .triton_cases import poisoned_memory


@pytest.fixture
def poisoned() -> Iterator[None]:
    """See `poisoned_memory`: for Triton's kernels."""
    with poisoned_memory():
        yield


@pytest.fixture
def one_thread() -> None:
    """Seeded, with PyTorch on one thread: for the CPU's kernels, which bring their own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
