"""What this machine can do, what a decode step needs of it, and how near our products come.

    python benchmarks/cpu_roofline.py [-o json]

Peaks are multiply-adds in registers and reads of memory, on one core, compiled with the kernels'
own compiler and flags. Times are the processor's, of the thread that worked, and the best of
several, so that other work on the machine costs little. The step is one of Qwen2.5-0.5B's shape.
"""

import argparse
import ctypes
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from penstock.engine.cores import usable_cores
from penstock.kernels.native import build_library, cpu_library
from penstock.kernels.ops import choose_ops

GIGA = 1e9
REPEATS = 7
PEAK_SOURCE = Path(__file__).with_suffix(".cpp")
PEAK_LOOPS = 2_000_000
READ_BYTES = {"32 MiB": 2**25, "256 MiB": 2**28}


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's sizes, as a step's costs need them."""

    hidden: int = 896
    inner: int = 4864
    num_layers: int = 24
    num_heads: int = 14
    num_kv_heads: int = 2
    head_dim: int = 64
    vocab: int = 151_936

    @property
    def products(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of the four products of a layer."""
        heads = self.num_heads * self.head_dim
        return {
            "qkv": (heads + 2 * self.num_kv_heads * self.head_dim, self.hidden),
            "output": (self.hidden, heads),
            "gate_up": (2 * self.inner, self.hidden),
            "down": (self.hidden, self.inner),
        }

    @property
    def layer_weights(self) -> int:
        """Weights of all layers' products."""
        return self.num_layers * sum(n * k for n, k in self.products.values())

    @property
    def head_weights(self) -> int:
        """Weights of the projection to the vocabulary."""
        return self.vocab * self.hidden


def best_s(work: Callable[[], object]) -> float:
    """Return the least processor time that `work` took, having run it once before."""
    work()
    times = []
    for _ in range(REPEATS):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return min(times)


def measure_peaks() -> dict[str, float]:
    """Return billions of operations, or of bytes, per second of one core."""
    with tempfile.TemporaryDirectory() as scratch:
        artefact = Path(scratch) / "roofline.so"
        build_library([PEAK_SOURCE], artefact)
        library = ctypes.CDLL(str(artefact))
    peaks = {}
    for name, per_loop in (("float32", 2 * 16), ("bfloat16", 2 * 32), ("int8", 2 * 64)):
        loop = getattr(library, f"multiply_{name}", None)
        if loop is not None:
            loop.argtypes, loop.restype = [ctypes.c_long], None
            num_operations = PEAK_LOOPS * library.accumulators() * per_loop
            seconds = best_s(lambda loop=loop: loop(PEAK_LOOPS))
            peaks[name] = num_operations / seconds / GIGA
    library.read_bytes.argtypes = [ctypes.c_void_p, ctypes.c_long]
    for name, size in READ_BYTES.items():
        memory = torch.ones(size, dtype=torch.uint8)
        seconds = best_s(lambda memory=memory: library.read_bytes(memory.data_ptr(), len(memory)))
        peaks[f"read {name}"] = size / seconds / GIGA
    return peaks


def measure_onednn() -> dict[str, float]:
    """Return billions of operations per second of PyTorch's bfloat16 product on one thread."""
    found = {}
    for size in (1024, 2048):
        left, right = torch.randn(2, size, size).bfloat16()
        found[str(size)] = 2 * size**3 / best_s(lambda a=left, b=right: a @ b.T) / GIGA
    return found


def measure_products(shape: Shape, rows: int) -> dict[str, dict[str, float]]:
    """Return billions of operations per second of our products, on one thread, by type."""
    found: dict[str, dict[str, float]] = {}
    for kind in ("float32", "bfloat16", "int8"):
        dtype = torch.float32 if kind == "float32" else torch.bfloat16
        ops = choose_ops(torch.device("cpu"), dtype, shape.head_dim, 16, 1)
        pack = ops.quantized_projection if kind == "int8" else ops.projection
        found[kind] = {}
        for name, (outputs, inputs) in shape.products.items():
            project = pack(torch.randn(outputs, inputs).to(dtype))
            x = torch.randn(rows, inputs).to(dtype)
            seconds = best_s(lambda project=project, x=x: project(x))
            found[kind][name] = 2 * rows * outputs * inputs / seconds / GIGA
    return found


def predict_step(
    shape: Shape, rows: int, context: int, peaks: dict[str, float], cores: int
) -> dict[str, dict[str, float]]:
    """Return the least milliseconds a decode step can take, by type: computing, and reading."""
    cached = rows * context * shape.num_layers * 2 * shape.num_kv_heads * shape.head_dim
    floors = {}
    for kind, itemsize in (("float32", 4), ("bfloat16", 2), ("int8", 1)):
        if kind not in peaks:
            continue
        wide = max(2, itemsize)  # of the head and the cache beside int8 layers
        head = "bfloat16" if kind == "int8" else kind
        layers_s = 2 * rows * shape.layer_weights / peaks[kind] / GIGA
        head_s = 2 * rows * shape.head_weights / peaks[head] / GIGA
        num_bytes = shape.layer_weights * itemsize + (shape.head_weights + cached) * wide
        floors[kind] = {
            "computing ms": 1e3 * (layers_s + head_s) / cores,
            "reading ms": 1e3 * num_bytes / peaks["read 256 MiB"] / GIGA,
        }
    return floors


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[32, 64, 512])
    parser.add_argument("--context", type=int, default=160)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if cpu_library() is None:
        raise SystemExit("there are no CPU kernels here: install a C++ compiler")
    shape, cores = Shape(), usable_cores()
    peaks = measure_peaks()
    report = {
        "cores": cores,
        "load": os.getloadavg()[0],
        "peaks": peaks,
        "onednn": measure_onednn(),
        "products": {rows: measure_products(shape, rows) for rows in arguments.rows},
        "floors": {
            rows: predict_step(shape, rows, arguments.context, peaks, cores)
            for rows in arguments.rows
            if rows <= 64
        },
    }
    if arguments.output == "json":
        print(json.dumps(report))
        return
    console = Console()
    table = Table("one core", "10⁹ per second", title=f"peaks, load {report['load']:.1f}")
    for name, value in peaks.items():
        table.add_row(name, f"{value:.0f}")
    for size, value in report["onednn"].items():
        table.add_row(f"oneDNN bfloat16, {size}³", f"{value:.0f}")
    console.print(table)
    table = Table("rows", "type", *shape.products, title="our products, share of the peak")
    for rows, kinds in report["products"].items():
        for kind, products in kinds.items():
            shares = [
                f"{value:.0f} ({value / peaks[kind]:.0%})" if kind in peaks else f"{value:.0f}"
                for value in products.values()
            ]
            table.add_row(str(rows), kind, *shares)
    console.print(table)
    title = f"least time of a decode step, {cores} cores, context {arguments.context}"
    table = Table("rows", "type", "computing", "reading", title=title)
    for rows, kinds in report["floors"].items():
        for kind, floor in kinds.items():
            table.add_row(str(rows), kind, *(f"{value:.0f} ms" for value in floor.values()))
    console.print(table)


if __name__ == "__main__":
    main()
