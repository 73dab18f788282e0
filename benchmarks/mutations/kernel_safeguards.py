"""The lines on which attention and 8-bit products rest, and the tests that hold each."""

from .safeguard import Safeguard

_REFERENCE = ("tests/kernels/test_reference.py",)
_CPU_ATTENTION = ("tests/kernels/test_cpu_ops.py", "-k", "attention")

KERNEL_SAFEGUARDS = (
    # -- attention
    Safeguard(
        "causal mask, specification",
        "kernels/reference.py",
        "hidden = seen > place\n",
        "hidden = seen > seen.max()\n",
        _REFERENCE,
    ),
    Safeguard(
        "window mask, specification",
        "kernels/reference.py",
        "hidden |= seen <= place - sliding_window",
        "hidden |= seen < place - sliding_window",
        _REFERENCE,
    ),
    Safeguard(
        "causal mask, CPU kernel",
        "kernels/cpu_attention.cpp",
        "high[r] = offset + (tile.first + r) / group + 1;",
        "high[r] = step.context_lens[tile.row];",
        _CPU_ATTENTION,
    ),
    Safeguard(
        "window mask, CPU kernel",
        "kernels/cpu_attention.cpp",
        "low[r] = step.window ? std::max(0, high[r] - step.window) : 0;",
        "low[r] = 0;",
        _CPU_ATTENTION,
    ),
    Safeguard(
        "soft cap of scores, CPU kernel",
        "kernels/cpu_attention.cpp",
        "        if (step.softcap)\n",
        "        if (false)\n",
        _CPU_ATTENTION,
    ),
    # -- 8-bit products
    Safeguard(
        "what was added to make bytes unsigned is taken off again",
        "kernels/cpu_int8.cpp",
        "sums[n] - ZERO * weight_sums[first + n]",
        "sums[n]",
        ("tests/kernels/test_cpu_quantized.py",),
    ),
)
