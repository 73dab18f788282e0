"""What the Triton kernels compile to, and what would bound each of them on an H200. Needs no GPU.

    python benchmarks/triton_code.py              both tables, in Markdown
    python benchmarks/triton_code.py --part code  what is compiled: a minute
    python benchmarks/triton_code.py --part work  bytes, operations and the least time

Bytes and operations are those that each kernel's docstring tells; the rates are what an H200 was
seen to copy and multiply at most, so that times are floors, not forecasts.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = ("attention:80", "attention:90", "eight_bits:90", "others:80", "others:90")
BYTES_PER_S, OPERATIONS_PER_S = 4.3e12, 790e12  # of an H200, in bfloat16
BF16, FP8, FP32 = 2, 1, 4
SPLIT = 256
SIGNS = {  # of the instructions that matter, in the table
    "load of 16 bytes": "ld16",
    "store of 16 bytes": "st16",
    "copy of 16 bytes": "async16",
    "mma": "mma",
    "wgmma": "wgmma",
    "atomic": "atomic",
}


@dataclass(frozen=True)
class Model:
    name: str
    hidden: int
    heads: int
    kv_heads: int
    dim: int
    inner: int
    vocab: int


QWEN_05 = Model("Qwen2.5-0.5B", 896, 14, 2, 64, 4864, 151936)
QWEN_06 = Model("Qwen3-0.6B", 1024, 16, 8, 128, 3072, 151936)
LLAMA_8 = Model("Llama-3.1-8B", 4096, 32, 8, 128, 14336, 128256)


@dataclass(frozen=True)
class Work:
    """What one launch moves and computes; matrix operations, or none worth counting."""

    name: str
    num_bytes: float
    operations: float = 0.0

    @property
    def memory_us(self) -> float:
        return self.num_bytes / BYTES_PER_S * 1e6

    @property
    def arithmetic_us(self) -> float:
        return self.operations / OPERATIONS_PER_S * 1e6


def decode(model: Model, rows: int, context: int, itemsize: int = BF16) -> Work:
    """Keys and values once for each row; the parts of split rows written, and read to be merged."""
    numbers = model.heads * model.dim
    cached = 2 * context * model.kv_heads * model.dim * itemsize
    parts = 2 * FP32 * numbers * -(-context // SPLIT) if context > SPLIT else 0
    asked = 2 * numbers * BF16
    kind = ", cache in fp8" if itemsize == FP8 else ""
    name = f"decode, {rows} rows of {context:,}, {model.name}{kind}"
    return Work(name, rows * (cached + parts + asked), rows * 4 * context * numbers)


def prefill(model: Model, tokens: int) -> Work:
    """One row, all of it new: queries, output, and keys and values from memory once."""
    moved = 2 * tokens * (model.heads + model.kv_heads) * model.dim * BF16
    operations = 4 * tokens * (tokens / 2) * model.heads * model.dim
    return Work(f"prefill, a row of {tokens:,}, {model.name}", moved, operations)


def cascade(model: Model, rows: int, prefix: int) -> Work:
    """The prefix's keys and values once, its parts for each row as in decoding."""
    numbers = model.heads * model.dim
    moved = 2 * prefix * model.kv_heads * model.dim * BF16
    moved += rows * (2 * FP32 * numbers * (prefix // SPLIT) + 2 * numbers * BF16)
    operations = rows * 4 * prefix * numbers
    return Work(f"shared prefix of {prefix:,}, {rows:,} rows, {model.name}", moved, operations)


def rotation(model: Model, tokens: int) -> Work:
    numbers = (model.heads + 2 * model.kv_heads) * model.dim
    return Work(
        f"rotation and cache write, {tokens:,} tokens, {model.name}",
        tokens * (2 * numbers * BF16 + model.dim * FP32),
    )


def experts(tokens: int) -> Work:
    """Gate and up of Qwen3-30B-A3B: 8 of 128 experts for each token, from some 60 tokens on all."""
    hidden, inner, chosen, num_experts = 2048, 768, 8, 128
    rows = tokens * chosen
    moved = min(rows, num_experts) * 2 * inner * hidden * BF16 + rows * (hidden + 2 * inner) * BF16
    return Work(f"experts' gate and up, {tokens:,} tokens", moved, rows * 4 * inner * hidden)


def all_work() -> Iterator[Work]:
    for model in (QWEN_05, QWEN_06, LLAMA_8):
        yield decode(model, 256, 1024)
    yield decode(LLAMA_8, 256, 1024, FP8)
    yield prefill(QWEN_06, 4096)
    yield prefill(LLAMA_8, 4096)
    yield decode(QWEN_06, 1024, 2048)
    yield cascade(QWEN_06, 1024, 2048)
    yield rotation(QWEN_06, 256)
    yield rotation(LLAMA_8, 8192)
    yield Work("add and norm, 8,192 tokens, Llama-3.1-8B", 4 * 8192 * LLAMA_8.hidden * BF16)
    yield Work("SiLU gate, 8,192 tokens, Llama-3.1-8B", 3 * 8192 * LLAMA_8.inner * BF16)
    yield experts(256)
    yield experts(8192)
    yield Work("drawing from logits, 256 rows, Qwen3-0.6B", 256 * QWEN_06.vocab * FP32)


def print_work() -> None:
    print("| one launch | MB | GFLOP | bound by | at least, µs |\n|---|---|---|---|---|")
    for work in all_work():
        bound = "memory" if work.memory_us >= work.arithmetic_us else "products"
        least = max(work.memory_us, work.arithmetic_us)
        figures = f"{work.num_bytes / 1e6:,.1f} | {work.operations / 1e9:,.1f}"
        print(f"| {work.name} | {figures} | {bound} | {least:,.1f} |")


def compiled() -> list[dict[str, Any]]:
    """Compile every case in a process without Triton's interpreter; one for each target."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.kernels.triton_compiler", *FAMILIES],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "0"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(found.stdout)


def print_code() -> None:
    of_kernel: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for entry in compiled():
        of_kernel.setdefault((entry["kernel"], entry["case"]), {})[entry["target"]] = entry
    print("| kernel | for | registers | spilled, B | shared, KiB | instructions |")
    print("|---|---|---|---|---|---|")
    cases_of: dict[tuple[str, str], list[str]] = {}
    for (kernel, case), targets in sorted(of_kernel.items()):
        cells = [_both(targets, "registers"), _both(targets, "spilled_bytes")]
        cells += [_both(targets, "shared_bytes", 1024), _instructions(targets)]
        name = kernel.strip("_").removesuffix("_kernel")
        cases_of.setdefault((name, " | ".join(cells)), []).append(case)
    for (name, cells), cases in cases_of.items():
        print(f"| {name} | {'; '.join(cases)} | {cells} |")


def _both(targets: dict[int, dict[str, Any]], name: str, unit: int = 1) -> str:
    """Return a figure for sm_80 and one for sm_90; none where a kernel is not for Ampere."""
    values = [targets[target][name] for target in (80, 90) if target in targets]
    cells = [f"{value / unit:.0f}" for value in values]
    return " / ".join(["none"] * (2 - len(cells)) + cells)


def _instructions(targets: dict[int, dict[str, Any]]) -> str:
    """Return the signs of Hopper's, and in brackets what Ampere has in their place."""
    hopper, ampere = (_signs(targets.get(target)) for target in (90, 80))
    others = [sign for sign in ampere if sign not in hopper]
    return " ".join(hopper) + (f" ({' '.join(others)})" if others else "")


def _signs(entry: dict[str, Any] | None) -> list[str]:
    return [sign for name, sign in SIGNS.items() if entry and name in entry["instructions"]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("code", "work", "both"), default="both")
    part = parser.parse_args().part
    if part != "work":
        print_code()
    if part == "both":
        print()
    if part != "code":
        print_work()


if __name__ == "__main__":
    main()
