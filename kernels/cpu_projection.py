"""Matrix products on a CPU: which kernel serves a weight, and how the weight is laid out for it.

Knows layouts, types and instruction sets. Refuses to know the arithmetic (`cpu_matmul.cpp`) and
what the products are for.
"""

import ctypes

import torch
from torch.nn import functional as F

from . import reference
from .huge_pages import empty_for_results, empty_in_huge_pages
from .native import kernel_function
from .reference import Projection

_PANEL = 32  # outputs per packed panel, see cpu_matmul.cpp
_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_P, _L, _I = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
_MATMUL = (_P, _P, _P, _P, _L, _I, _I, _I)


def can_multiply(library: ctypes.CDLL, dtype: torch.dtype) -> bool:
    """Whether products are our own on this processor; else they are oneDNN's.

    They are wherever it has AVX512_BF16 and no AMX, and in float32 everywhere.
    """
    if dtype is torch.float32:
        return True
    return hasattr(library, "matmul_bfloat16") and not torch.cpu._is_amx_tile_supported()


def pack_projection(
    library: ctypes.CDLL,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    out_dtype: torch.dtype | None,
    num_threads: int,
) -> Projection:
    """See `reference.projection`; lays the weight out once for the kernel that is fastest here."""
    if can_multiply(library, weight.dtype) and weight.shape[1] % _depth(weight.dtype) == 0:
        return PackedProjection(library, weight, bias, out_dtype or weight.dtype, num_threads)
    if torch.cpu._is_amx_tile_supported():
        return PaddedProjection(weight, bias, out_dtype)
    return reference.projection(weight, bias, out_dtype)


class PackedProjection:
    """A matrix product with the weight in panels, as cpu_matmul.cpp wants it."""

    def __init__(
        self,
        library: ctypes.CDLL,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        out_dtype: torch.dtype,
        num_threads: int,
    ) -> None:
        self._outputs, self._inputs = weight.shape
        self._bias = bias.float() if bias is not None else None
        self._out_dtype = out_dtype
        self._threads = num_threads
        wide = "_wide" if out_dtype is not weight.dtype else ""
        self._matmul = kernel_function(library, f"matmul_{_NAMES[weight.dtype]}{wide}", _MATMUL)
        depth = _depth(weight.dtype)
        missing = -self._outputs % _PANEL
        padded = F.pad(weight, (0, 0, 0, missing)) if missing else weight
        panels = padded.view(-1, _PANEL, self._inputs // depth, depth)
        in_order = panels.transpose(1, 2)
        self._panels = empty_in_huge_pages(in_order.shape, weight.dtype).copy_(in_order)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [T, inputs] times the weight, [T, outputs]."""
        rows = x.shape[0]
        out = empty_for_results((rows, self._outputs), self._out_dtype)
        self._matmul(
            x.data_ptr(),
            self._panels.data_ptr(),
            self._bias.data_ptr() if self._bias is not None else None,
            out.data_ptr(),
            rows,
            self._inputs,
            self._outputs,
            self._threads,
        )
        return out


class PaddedProjection:
    """oneDNN's product on AMX tiles, never called with fewer than 32 rows.

    Below that oneDNN leaves its fast path: measured 4 to 6 ms instead of 0.8 ms for 4864 x 896.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, out_dtype: torch.dtype | None
    ) -> None:
        self._multiply = reference.projection(weight, bias, out_dtype)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [T, inputs] times the weight, [T, outputs]."""
        rows = x.shape[0]
        if 0 < rows < _PANEL:
            return self._multiply(F.pad(x, (0, 0, 0, _PANEL - rows)))[:rows]
        return self._multiply(x)


def _depth(dtype: torch.dtype) -> int:
    """Return the inputs taken per step of a product: as many as fill a lane of 32 bits."""
    return torch.float32.itemsize // dtype.itemsize
