"""The CPU's matrix products agree with their twin; no row's bits depend on its company."""

import pytest
import torch

from penstock.kernels import reference
from penstock.kernels.cpu import CpuOps
from penstock.kernels.cpu_projection import PaddedProjection
from tests.kernels.cases import assert_agree
from tests.kernels.cpu_cases import DTYPES, ops_for

pytestmark = pytest.mark.usefixtures("one_thread")


def own_ops_for(dtype: torch.dtype, num_threads: int = 1) -> CpuOps:
    ops = ops_for(dtype, num_threads)
    if not ops.multiplies:
        pytest.skip("bfloat16 products are oneDNN's on this processor")
    return ops


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [
        (0, 64, 64),
        (1, 64, 64),
        (3, 30, 32),
        (12, 256, 33),
        (13, 2050, 70),  # several parts along the inputs
        (97, 96, 5),
        (200, 64, 96),
        (121, 1300, 300),  # two blocks of rows, two groups of panels
    ],
)
def test_projection(dtype: torch.dtype, bias: bool, rows: int, inputs: int, outputs: int) -> None:
    weight = torch.randn(outputs, inputs, dtype=dtype) / inputs**0.5
    offset = torch.randn(outputs, dtype=dtype) if bias else None
    x = torch.randn(rows, inputs, dtype=dtype)
    expected = reference.projection(weight, offset)(x)
    assert_agree(ops_for(dtype).projection(weight, offset)(x), expected)
    wide = ops_for(dtype).projection(weight, offset, out_dtype=torch.float32)(x)
    assert wide.dtype is torch.float32
    torch.testing.assert_close(wide, expected.float(), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_of_whole_numbers_is_exact(dtype: torch.dtype) -> None:
    """No input is left out and none is taken twice, wherever blocks, groups and parts end."""
    weight = torch.randint(-3, 4, (290, 2100)).to(dtype)
    x = torch.randint(-3, 4, (243, 2100)).to(dtype)
    found = own_ops_for(dtype, 3).projection(weight, out_dtype=torch.float32)(x)
    assert torch.equal(found, x.float() @ weight.float().T)


@pytest.mark.parametrize("rows", [0, 1, 31, 32, 40])
def test_padding_is_not_seen(rows: int) -> None:
    weight, x = (
        torch.randn(48, 64, dtype=torch.bfloat16),
        torch.randn(rows, 64, dtype=torch.bfloat16),
    )
    found = PaddedProjection(weight, None, torch.float32)(x)
    assert_agree(found, reference.projection(weight, None, torch.float32)(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(700, 72), (2600, 300)])
def test_product_of_a_row_has_the_same_bits_in_any_batch(
    dtype: torch.dtype, inputs: int, outputs: int
) -> None:
    weight = torch.randn(outputs, inputs, dtype=dtype)
    multiply = own_ops_for(dtype).projection(weight)
    x = torch.randn(130, inputs, dtype=dtype)
    whole = multiply(x)
    assert torch.equal(own_ops_for(dtype, 3).projection(weight)(x), whole)
    for begin, end in [(0, 1), (3, 16), (5, 18), (90, 130), (0, 97), (2, 125)]:
        assert torch.equal(multiply(x[begin:end].contiguous()), whole[begin:end])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_stays_in_its_row(dtype: torch.dtype, fault: float) -> None:
    weight = torch.ones(40, 64, dtype=dtype)
    x = torch.ones(30, 64, dtype=dtype)
    x[17, 5] = fault
    found = own_ops_for(dtype).projection(weight)(x)
    assert not found[17].isfinite().any()
    assert (found[:17] == 64).all()
    assert (found[18:] == 64).all()


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF - 2**32])
def test_a_nan_stays_one_when_it_is_shortened(bits: int) -> None:
    weight = torch.eye(32, dtype=torch.bfloat16)
    bias = torch.tensor([bits] * 32, dtype=torch.int32).view(torch.float32)
    found = own_ops_for(torch.bfloat16).projection(weight, bias)(weight)
    assert found.isnan().all()
