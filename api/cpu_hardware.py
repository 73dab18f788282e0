"""This machine's CPU as a planner sees it. Knows the system's files and a short probe of memory.

Products are not probed, which would take a library: a core is credited with what a core like it
was measured to do (`benchmarks/RESULTS.md`, "What a CPU step costs"; AMX: 2.5 TFLOP/s of bfloat16
by two cores), by the instructions that it has.
"""

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .hardware import MIB, Hardware, NumberType

_COPY_BYTES = 32 * MIB  # for each thread: more than its share of the caches
_MAX_THREADS = 16  # which keep a socket's memory busy
_ROUNDS = 3
_FLAGS_FILE = Path("/proc/cpuinfo")

# The first whose instruction set is there: G products and sums a second of one core.
_CORES = (
    ("amx_bf16", {NumberType.FP32: 241, NumberType.BF16: 1250, NumberType.INT8: 1750}),
    ("avx512_bf16", {NumberType.FP32: 241, NumberType.BF16: 484, NumberType.INT8: 953}),
    ("avx512f", {NumberType.FP32: 241, NumberType.BF16: 120, NumberType.INT8: 240}),
    ("", {NumberType.FP32: 100, NumberType.BF16: 50, NumberType.INT8: 100}),
)


def this_cpu(bytes_per_s: float | None = None) -> Hardware:
    """Return this machine's CPU; its memory is probed for a moment unless its speed is given."""
    cores = num_cores()
    flags = cpu_flags()
    needed, rates = next(entry for entry in _CORES if not entry[0] or entry[0] in flags)
    speed = bytes_per_s or probe_bytes_per_s(cores)
    how = "stated" if bytes_per_s else "measured now by a copy"
    return Hardware(
        name="cpu",
        memory_mib=_memory_bytes() // MIB,
        bytes_per_s=speed,
        operations_per_s={number: rate * 1e9 * cores for number, rate in rates.items()},
        capability=None,
        watts=None,
        source=f"{cores} cores with {needed or 'no vectors of 512 bits'}, memory {how}",
        is_gpu=False,
        copy_share=1.0,
        product_share=1.0,
    )


def has_fast_bf16(hardware: Hardware) -> bool:
    """Whether bfloat16 is multiplied by instructions of its own."""
    rates = hardware.operations_per_s
    return rates[NumberType.BF16] > rates.get(NumberType.FP32, 0.0)


def num_cores() -> int:
    """Return the cores that this process may use; hyperthreads count, quotas do not."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags(path: Path = _FLAGS_FILE) -> frozenset[str]:
    """Return the names of the CPU's instruction sets; none where the system does not tell."""
    try:
        lines = path.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def probe_bytes_per_s(num_threads: int) -> float:
    """Copy memory with so many threads for a moment; return bytes read and written a second."""
    num_threads = min(num_threads, _MAX_THREADS)
    pairs = [
        (ctypes.create_string_buffer(_COPY_BYTES), ctypes.create_string_buffer(_COPY_BYTES))
        for _ in range(num_threads)
    ]
    best_s = float("inf")
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in range(1 + _ROUNDS):  # the first touches the pages
            began = time.perf_counter()
            list(threads.map(_copy, pairs))
            best_s = min(best_s, time.perf_counter() - began)
    return 2 * _COPY_BYTES * num_threads / best_s


def _copy(pair: tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]) -> None:
    ctypes.memmove(pair[0], pair[1], _COPY_BYTES)  # lets other threads of Python run meanwhile


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
