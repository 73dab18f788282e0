"""What sampling calls on the device: one set of operations, chosen once.

Knows which implementations exist. Refuses to know how they work; `reference_logits` and
`reference_sampling` say what they compute.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from . import reference_logits, reference_sampling
from .reference_cache import RowTables
from .reference_logits import History, Penalties, Rules
from .reference_sampling import Chances, Kept

_Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class SamplingOps:
    """The operations between logits and tokens, each under the name of its specification.

    None of them reads a tensor back or makes one whose shape depends on data.
    """

    adjust: Callable[[_Tensor, _Tensor, _Tensor, Rules], None]
    allow: Callable[[_Tensor, _Tensor, Rules], None]
    record: Callable[[History, _Tensor, RowTables], None]
    penalise: Callable[[_Tensor, _Tensor, History, Penalties], None]
    keep_likeliest: Callable[[_Tensor, _Tensor, Chances], Kept]
    sample: Callable[[_Tensor, _Tensor, _Tensor, Chances, Kept | None], tuple[_Tensor, _Tensor]]
    top_logprobs: Callable[
        [_Tensor, _Tensor, _Tensor, _Tensor, int], tuple[_Tensor, _Tensor, _Tensor]
    ]


def reference_ops() -> SamplingOps:
    """Return the operations in plain PyTorch."""
    return SamplingOps(
        adjust=reference_logits.adjust,
        allow=reference_logits.allow,
        record=reference_logits.record,
        penalise=reference_logits.penalise,
        keep_likeliest=reference_sampling.keep_likeliest,
        sample=reference_sampling.sample,
        top_logprobs=reference_sampling.top_logprobs,
    )


def triton_ops() -> SamplingOps:
    """Return the operations as Triton kernels."""
    # Here, and with it Triton, for which a CPU has no use.
    from . import triton_filters, triton_history, triton_logits, triton_logprobs, triton_sampling

    return SamplingOps(
        adjust=triton_logits.adjust,
        allow=triton_logits.allow,
        record=triton_history.record,
        penalise=triton_history.penalise,
        keep_likeliest=triton_filters.keep_likeliest,
        sample=triton_sampling.sample,
        top_logprobs=triton_logprobs.top_logprobs,
    )


def choose_sampling_ops(device: torch.device) -> SamplingOps:
    """Return the fastest operations that can serve a device."""
    if device.type == "cuda" and find_spec("triton"):
        return triton_ops()
    return reference_ops()
