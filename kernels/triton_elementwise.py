"""Norms and activations: one read, one write, sums in float32.

Knows rows of numbers. Refuses to know what they mean. All are bound by memory; operations are about
5 per number for norms and 10 for activations.
"""

import torch
import triton
import triton.language as tl

from .triton_attention import contiguous
from .triton_launch import launch, power_of_2_from

_COLUMNS = 1024
_LARGEST_ROW = 65536


@triton.jit
def _norm_kernel(
    x,
    residual,
    weight,
    output,
    eps,
    SIZE: tl.constexpr,
    ADDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program: one row. Bytes per number: 2 * itemsize, with a residual 4 * itemsize."""
    row = tl.program_id(0).to(tl.int64) * SIZE
    columns = tl.arange(0, BLOCK)
    is_column = columns < SIZE
    numbers = tl.load(x + row + columns, mask=is_column, other=0.0)
    if ADDS:
        stream = tl.load(residual + row + columns, mask=is_column, other=0.0)
        numbers = (stream.to(tl.float32) + numbers.to(tl.float32)).to(stream.dtype)
        tl.store(residual + row + columns, numbers, mask=is_column)
    wide = numbers.to(tl.float32)
    unit = tl.rsqrt(tl.sum(wide * wide, 0) / SIZE + eps)
    weights = tl.load(weight + columns, mask=is_column, other=0.0).to(tl.float32)
    normed = (wide * unit * weights).to(output.dtype.element_ty)
    tl.store(output + row + columns, normed, mask=is_column)


@triton.jit
def _gate_kernel(gate_up, output, SIZE: tl.constexpr, IS_GELU: tl.constexpr, BLOCK: tl.constexpr):
    """One program: BLOCK columns of one row. Bytes per output number: 3 * itemsize."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_column = columns < SIZE
    source = gate_up + row * (2 * SIZE) + columns
    gate = tl.load(source, mask=is_column, other=0.0).to(tl.float32)
    up = tl.load(source + SIZE, mask=is_column, other=0.0).to(tl.float32)
    steep = gate
    if IS_GELU:
        # gelu(x) = x * (1 + tanh(y)) / 2 = x * sigmoid(2 y), y = sqrt(2 / pi) (x + 0.044715 x^3)
        steep = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)
    # Where exp2 overflows, the quotient is the limit: 0.
    gated = gate / (1.0 + tl.exp2(-1.4426950408889634 * steep))
    tl.store(
        output + row * SIZE + columns, (gated * up).to(output.dtype.element_ty), mask=is_column
    )


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Compute `reference.rms_norm` for x [T, hidden]."""
    return _norm(x, None, weight, eps)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """Compute `reference.add_rms_norm`, in place on `residual`; all [T, hidden]."""
    return _norm(x, contiguous("residual", residual), weight, eps)


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """Compute `reference.silu_and_mul` for [T, 2 * intermediate]."""
    return _gate(gate_up, is_gelu=False)


def gelu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """Compute `reference.gelu_and_mul` for [T, 2 * intermediate]."""
    return _gate(gate_up, is_gelu=True)


def _norm(
    x: torch.Tensor, residual: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    rows, size = x.shape
    if size > _LARGEST_ROW:
        raise ValueError(f"rows to norm must have at most {_LARGEST_ROW} numbers, got {size}")
    output = torch.empty_like(x)
    block = power_of_2_from(size)
    launch(
        _norm_kernel,
        (rows,),
        contiguous("x", x),
        x if residual is None else residual,
        weight,
        output,
        eps,
        SIZE=size,
        ADDS=residual is not None,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),
    )
    return output


def _gate(gate_up: torch.Tensor, *, is_gelu: bool) -> torch.Tensor:
    rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    output = gate_up.new_empty((rows, size))
    launch(
        _gate_kernel,
        (rows, -(-size // _COLUMNS)),
        contiguous("gate_up", gate_up),
        output,
        SIZE=size,
        IS_GELU=is_gelu,
        BLOCK=_COLUMNS,
        num_warps=4,
    )
    return output
