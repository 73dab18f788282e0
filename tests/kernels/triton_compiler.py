"""Compiles what a launch would run, for a GPU that is not there, and reads what came out.

    python -m tests.kernels.triton_compiler attention:80 attention:90 others:90    prints JSON

Runs as a process of its own, without the interpreter. A driver stands in that names a target and
lets nothing start, so each launch function is called as in real use, with tensors of real shapes.
"""

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

INSTRUCTIONS = {
    "load of 16 bytes": r"ld\.global[.\w:]*\.v4\.[bf]32",
    "store of 16 bytes": r"st\.global[.\w:]*\.v4\.[bf]32",
    "copy of 16 bytes": r"cp\.async\.cg\.shared\.global[^;]*, 0x10",
    "mma": r"mma\.sync",
    "wgmma": r"wgmma",
    "atomic": r"atom\.",
    "fused multiply-add": r"fma\.rn\.f",
}
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes, and which instructions it has."""

    case: str
    kernel: str
    target: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions: list[str]


class AbsentGPU:
    """The part of Triton's driver that compiling asks for."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return int(self._target.arch)  # kernels are kept per device: one for each target

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def compiling_for(capability: int, compiled: list[Any]) -> Iterator[None]:
    """Let launches compile for `capability` and do nothing more."""
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        compiled.append(run(self, *args, grid=grid, warmup=True, **kwargs))

    driver.set_active(AbsentGPU(capability))  # pyright: ignore[reportArgumentType]
    JITFunction.run = compile_only  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        JITFunction.run = run


def resources_of(case: str, target: int, kernel: Any) -> Resources:
    """Read registers and spills from the binary, instructions from the PTX."""
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory) / "kernel.cubin"
        binary.write_bytes(kernel.asm["cubin"])
        command = [str(_TOOLS / "cuobjdump"), "--dump-resource-usage", str(binary)]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+).* LOCAL:(\d+)", usage)
    assert found, usage
    ptx = kernel.asm["ptx"]
    present = [name for name, pattern in INSTRUCTIONS.items() if re.search(pattern, ptx)]
    return Resources(
        case,
        kernel.metadata.name,
        target,
        int(found[1]),
        int(found[2]) + int(found[3]),
        kernel.metadata.shared,
        present,
    )


def report(cases: dict[str, Callable[[], object]], target: int) -> list[Resources]:
    """Compile every case for a target."""
    found: list[Resources] = []
    for case, launch in cases.items():
        compiled: list[Any] = []
        with compiling_for(target, compiled):
            launch()
        found += [resources_of(case, target, kernel) for kernel in compiled]
    return found


def in_process(*families: str) -> list[Resources]:
    """Compile families of `triton_shapes`, each "name:target", in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", __name__, *families],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TRITON_INTERPRET": "0"},
        cwd=Path(__file__).parents[2],
    )
    if run.returncode:
        raise RuntimeError(f"kernels do not compile: {run.stderr[-4000:]}")
    return [Resources(**entry) for entry in json.loads(run.stdout)]


if __name__ == "__main__":
    shapes = importlib.import_module("tests.kernels.triton_shapes")
    results: list[Resources] = []
    for family in sys.argv[1:]:
        name, target = family.split(":")
        results += report(shapes.FAMILIES[name], int(target))
    print(json.dumps([asdict(resources) for resources in results]))
