"""How a kernel is held against its twin: outputs full of NaN, and how far off is too far.

A finding has `worst`, the largest difference over what is allowed: it passes up to 1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from part import Part

ALLOWED = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
Case = dict[str, Any]


@contextmanager
def poisoned() -> Iterator[None]:
    """Let `torch.empty` return NaN and the largest integers."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def worst(*pairs: tuple[torch.Tensor, torch.Tensor]) -> dict[str, Any]:
    """Compare what was found with what was expected; NaN where none is expected is infinite."""
    ratios = [0.0]
    for found, expected in pairs:
        allowed = ALLOWED.get(found.dtype, 0.0)
        found, expected = found.double(), expected.double()
        same = (found == expected) | (found.isnan() & expected.isnan())
        excess = (found - expected).abs() / (allowed * (1 + expected.abs())).clamp(min=1e-300)
        excess = excess.nan_to_num(nan=float("inf")).masked_fill(same, 0.0)
        ratios.append(float(excess.max()) if excess.numel() else 0.0)
    return {"worst": min(round(max(ratios), 4), 1e9), "passed": max(ratios) <= 1}


def wide_and_narrow(part: Part) -> tuple[torch.dtype, torch.dtype]:
    return torch.float32, torch.bfloat16 if part.device.type == "cuda" else torch.float16
