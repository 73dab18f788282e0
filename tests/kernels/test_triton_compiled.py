"""Every kernel compiles for Ampere and Hopper without a GPU, and fits: no spills, wide loads."""

import re
from pathlib import Path

import pytest

from tests.kernels.triton_compiler import Resources, in_process

SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}  # that one program may have
TENSOR_CORES = {"_decode_kernel", "_prefill_kernel", "_prefix_kernel", "_experts_kernel"}
NARROW = {  # single numbers, gathered ones, or (forbidden tokens) any subset
    "_allow_kernel", "_adjust_kernel",
    "_choose_kernel", "_row_kernel", "_record_kernel", "_advance_kernel", "_inputs_kernel",
    "_merge_kernel",
}  # fmt: skip


def assert_fits(resources: Resources) -> None:
    print(*(f"{name}={value}" for name, value in vars(resources).items()), sep="  ")
    assert resources.spilled_bytes == 0
    assert resources.shared_bytes <= SHARED_BYTES[resources.target]
    present = set(resources.instructions)
    if resources.kernel in TENSOR_CORES:
        assert present & {"mma", "wgmma"}
        assert "copy of 16 bytes" in present
        if resources.kernel == "_prefill_kernel" and resources.target == 90:
            assert "wgmma" in present
    elif resources.kernel not in NARROW:
        assert "load of 16 bytes" in present
    if resources.kernel == "_penalise_kernel":  # rounds where the host's penalties do
        assert "fused multiply-add" not in present


KERNELS = {
    "attention:80": 15,
    "attention:90": 15,
    "others:80": 20,
    "others:90": 20,
    "eight_bits:90": 7,
}


@pytest.fixture(scope="module")
def compiled() -> list[Resources]:
    return in_process(*KERNELS)


def test_kernels_fit(compiled: list[Resources]) -> None:
    for resources in compiled:
        assert_fits(resources)


def test_all_were_compiled(compiled: list[Resources]) -> None:
    assert len(compiled) == sum(KERNELS.values())
    sources = (Path(__file__).parents[2] / "kernels").glob("triton_*.py")
    written = {
        name for path in sources for name in re.findall(r"def (_\w+_kernel)", path.read_text())
    }
    assert {resources.kernel for resources in compiled} == written
