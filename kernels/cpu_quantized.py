"""Matrix products in 8-bit whole numbers on a CPU.

Knows how quantized weights are laid out. Refuses to know the arithmetic (`cpu_int8.cpp`) and what
quantizing means (`reference.quantize_rows`).
"""

import ctypes

import torch
from torch.nn import functional as F

from . import reference
from .huge_pages import empty_for_results, empty_in_huge_pages
from .native import kernel_function
from .reference import Projection

_PANEL = 32  # outputs per packed panel, see cpu_panels.h
_DEPTH = 4  # inputs per step
_MOST_INPUTS = (2**31 - 1) // (255 * 127)  # more could overflow a sum
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_P, _L, _I = ctypes.c_void_p, ctypes.c_long, ctypes.c_int


def quantize_projection(
    library: ctypes.CDLL, weight: torch.Tensor, bias: torch.Tensor | None, num_threads: int
) -> Projection:
    """See `reference.quantized_projection`; lays the weight out for our kernel where it can serve.

    It serves processors with AVX512_VNNI. Elsewhere the results are the same, and slow.
    """
    serves = hasattr(library, "matmul_int8_float32") and weight.shape[1] <= _MOST_INPUTS
    if serves and weight.dtype in _NAMES:
        return QuantizedProjection(library, weight, bias, num_threads)
    return reference.quantized_projection(weight, bias)


class QuantizedProjection:
    """A matrix product with the quantized weight in panels, as cpu_int8.cpp wants it."""

    def __init__(
        self,
        library: ctypes.CDLL,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        num_threads: int,
    ) -> None:
        self._outputs, self._inputs = weight.shape
        self._depth = -(-self._inputs // _DEPTH) * _DEPTH
        self._bias = bias.float() if bias is not None else None
        self._threads = num_threads
        name = _NAMES[weight.dtype]
        self._quantize = kernel_function(
            library, f"quantize_rows_{name}", (_P, _P, _P, _L, _I, _I, _I)
        )
        self._matmul = kernel_function(
            library, f"matmul_int8_{name}", (_P, _P, _P, _P, _P, _P, _P, _L, _I, _I, _I)
        )
        quantized, scales = reference.quantize_rows(weight)
        missing = -self._outputs % _PANEL
        padded = F.pad(quantized, (0, self._depth - self._inputs, 0, missing))
        panels = padded.view(-1, _PANEL, self._depth // _DEPTH, _DEPTH).transpose(1, 2)
        self._panels = empty_in_huge_pages(panels.shape, torch.int8).copy_(panels)
        self._scales = F.pad(scales, (0, missing))
        self._sums = padded.sum(dim=1, dtype=torch.int32)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [T, inputs] times the weight, [T, outputs]."""
        rows = x.shape[0]
        quantized = x.new_empty((rows, self._depth), dtype=torch.uint8)
        scales = x.new_empty(rows, dtype=torch.float32)
        out = empty_for_results((rows, self._outputs), x.dtype)
        self._quantize(
            x.data_ptr(),
            quantized.data_ptr(),
            scales.data_ptr(),
            rows,
            self._inputs,
            self._depth,
            self._threads,
        )
        self._matmul(
            quantized.data_ptr(),
            scales.data_ptr(),
            self._panels.data_ptr(),
            self._scales.data_ptr(),
            self._sums.data_ptr(),
            self._bias.data_ptr() if self._bias is not None else None,
            out.data_ptr(),
            rows,
            self._depth,
            self._outputs,
            self._threads,
        )
        return out
