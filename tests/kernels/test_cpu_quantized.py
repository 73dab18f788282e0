"""Products in 8-bit whole numbers: exact sums, the twin's rounding, and what is no number."""

import pytest
import torch

from penstock.kernels import reference
from penstock.kernels.cpu_quantized import QuantizedProjection, quantize_projection
from tests.kernels.cpu_cases import DTYPES, required_library

pytestmark = pytest.mark.usefixtures("one_thread")


def projection_of(
    weight: torch.Tensor, bias: torch.Tensor | None = None, num_threads: int = 1
) -> QuantizedProjection:
    projection = quantize_projection(required_library(), weight, bias, num_threads)
    if not isinstance(projection, QuantizedProjection):
        pytest.skip("no AVX512_VNNI here")
    return projection


def whole_numbers(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers whose scale is 1, so that quantizing leaves them as they are."""
    numbers = torch.randint(-127, 128, (rows, columns)).to(dtype)
    numbers[:, 0] = 127
    return numbers


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [
        (0, 64, 64),
        (1, 4, 32),
        (3, 30, 33),
        (13, 2051, 70),
        (97, 97, 5),
        (
            121,
            4300,
            300,
        ),  # two blocks of rows, two groups of panels, several parts along the inputs
    ],
)
def test_sums_are_exact(rows: int, inputs: int, outputs: int) -> None:
    weight, x = whole_numbers(outputs, inputs), whole_numbers(rows, inputs)
    expected = x.long() @ weight.long().T
    assert torch.equal(projection_of(weight)(x), expected.float())
    assert torch.equal(reference.quantized_projection(weight)(x), expected.float())


def test_the_largest_sum_does_not_overflow() -> None:
    inputs = 66_308
    weight, x = torch.full((1, inputs), 127.0), torch.full((2, inputs), 127.0)
    x[1] = -127
    found = projection_of(weight)(x)
    assert torch.equal(found, (x.double() @ weight.double().T).float())


def test_more_inputs_than_a_sum_can_hold_go_to_pytorch() -> None:
    weight = torch.full((1, 66_312), 127.0)
    found = quantize_projection(required_library(), weight, None, 1)
    assert not isinstance(found, QuantizedProjection)
    assert found(weight) == float(66_312 * 127**2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 64, 64), (13, 350, 70), (130, 100, 37)]
)
def test_twins_agree(dtype: torch.dtype, bias: bool, rows: int, inputs: int, outputs: int) -> None:
    weight = torch.randn(outputs, inputs, dtype=dtype)
    offset = torch.randn(outputs, dtype=dtype) if bias else None
    x = torch.randn(rows, inputs, dtype=dtype) * torch.logspace(-20, 20, rows)[:, None].to(dtype)
    found = projection_of(weight, offset)(x)
    expected = reference.quantized_projection(weight, offset)(x)
    tolerance = 1e-6 if dtype is torch.float32 else 8e-3  # the last bit
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def test_a_product_is_near_the_unquantized_one() -> None:
    weight, x = torch.randn(200, 896) / 30, torch.randn(50, 896)
    exact = x @ weight.T
    error = (projection_of(weight)(x) - exact).norm() / exact.norm()
    assert error < 0.015


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [5, 65])
def test_what_is_no_number_makes_its_row_nan(dtype: torch.dtype, fault: float, place: int) -> None:
    weight, x = whole_numbers(40, 66, dtype), whole_numbers(30, 66, dtype)
    sound = x.clone()
    x[17, place] = fault
    for projection in (projection_of(weight), reference.quantized_projection(weight)):
        found = projection(x)
        assert found[17].isnan().all()
        others = torch.arange(30) != 17
        assert torch.equal(found[others], projection(sound)[others])


@pytest.mark.parametrize("size", [0.0, 1e-45, 9e-31, 3e38])
def test_rows_at_the_ends_of_the_range(size: float) -> None:
    weight, x = torch.eye(8), torch.full((1, 8), size)
    expected = x if size > 1e-30 else torch.zeros(1, 8)
    for projection in (projection_of(weight), reference.quantized_projection(weight)):
        torch.testing.assert_close(projection(x), expected, atol=0, rtol=1e-6)


def test_a_row_has_the_same_bits_in_any_batch_and_on_any_threads() -> None:
    weight, x = torch.randn(300, 2600), torch.randn(130, 2600)
    multiply = projection_of(weight)
    whole = multiply(x)
    assert torch.equal(projection_of(weight, num_threads=3)(x), whole)
    for begin, end in [(0, 1), (3, 16), (5, 18), (90, 130), (0, 97), (2, 125)]:
        assert torch.equal(multiply(x[begin:end].contiguous()), whole[begin:end])


def test_weights_that_are_no_numbers_are_seen() -> None:
    weight = torch.ones(40, 64)
    weight[7, 3] = torch.nan
    found = projection_of(weight)(torch.ones(2, 64))
    assert found[:, 7].isnan().all()
    assert found.isfinite().sum() == 2 * 39
