"""What `doctor` says of the machine: cores, memory, GPUs, a compiler, limits. Loads no torch."""

import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..jobs.settings import Settings
from .doctor_versions import numbers_of, torch_cuda
from .findings import Finding, Verdict

_CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
_FEW_FILES = 4096
_LITTLE_MEMORY_GB = 2
_TOOL_TIMEOUT_S = 5.0
# The driver that each generation of CUDA needs at least: NVIDIA's release notes, table 2.
_DRIVER_FOR = {11: 450, 12: 525, 13: 580}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as the driver's own tool tells it."""

    name: str
    memory_mib: int
    free_mib: int
    driver: str


def machine(settings: Settings) -> Iterator[Finding]:
    """Tell what the machine has, and what of it will be in the way."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = ", ".join(_cpu_features()) or "none of note"
    yield Finding("machine", "cpu", f"{platform.machine()}, {cores} cores, {found}")
    yield from _memory()
    yield from judged_gpus(gpus(), settings.device, torch_cuda(), has_torch=_has_torch())
    if _has_torch():
        yield _compiler()
    yield _open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def gpus() -> list[Gpu]:
    """Ask the driver's own tool, so that torch need not be loaded."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version"]
    try:
        answer = subprocess.run(
            [*query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_TOOL_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    lines = (line.split(", ") for line in answer.stdout.splitlines())
    return [
        Gpu(line[0], int(line[1]), int(line[2]), line[3])
        for line in lines
        if len(line) == 4 and line[1].isdecimal() and line[2].isdecimal()
    ]


def judged_gpus(
    found: list[Gpu], device: str, cuda: str | None, *, has_torch: bool
) -> Iterator[Finding]:
    """Judge the GPUs by what torch was built for, and by what the settings ask of them."""
    if not found:
        if device == "cuda":
            advice = "nvidia-smi finds none: install the driver, hand the GPU to the container, or "
            advice += "set PENSTOCK_DEVICE=auto"
            yield Finding("machine", "gpu", "none, but device is cuda", Verdict.FAILURE, advice)
        else:
            yield Finding("machine", "gpu", "none")
        return
    for number, gpu in enumerate(found):
        room = f"{gpu.free_mib / 1024:.1f} of {gpu.memory_mib / 1024:.1f} GiB free"
        yield Finding("machine", f"gpu {number}", f"{gpu.name}, {room}, driver {gpu.driver}")
    if not has_torch or device == "cpu":
        return
    if cuda is None:
        verdict = Verdict.FAILURE if device == "cuda" else Verdict.WARNING
        advice = "pip install --force-reinstall torch, from PyPI: its build there is for CUDA"
        yield Finding("machine", "cuda", "torch is built for CPUs", verdict, advice)
        return
    driver, needed = found[0].driver, _DRIVER_FOR.get(numbers_of(cuda)[0], 0)
    if numbers_of(driver) < (needed,):
        told = f"driver {driver} is too old for CUDA {cuda}"
        advice = f"install driver {needed} or newer, or a torch for an older CUDA"
        yield Finding("machine", "cuda", told, Verdict.FAILURE, advice)
    else:
        yield Finding("machine", "cuda", f"torch is built for {cuda}", Verdict.OK)


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _memory() -> Iterator[Finding]:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return  # not on Linux
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    total_gb, free_gb = kib["MemTotal"] * 1024 / 1e9, kib["MemAvailable"] * 1024 / 1e9
    limit_gb = _memory_limit_gb()
    told = f"{free_gb:,.1f} of {total_gb:,.1f} GB available"
    if limit_gb is not None and limit_gb < total_gb:
        told += f", {limit_gb:,.1f} GB for this container"
    if min(free_gb, limit_gb or free_gb) >= _LITTLE_MEMORY_GB:
        yield Finding("machine", "memory", told, Verdict.OK)
        return
    advice = "a worker holds its model and the KV cache (PENSTOCK_KV_CACHE_GB) in it: make room"
    yield Finding("machine", "memory", told, Verdict.WARNING, advice)


def _memory_limit_gb() -> float | None:
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) / 1e9 if text.isdecimal() else None


def _compiler() -> Finding:
    """Tell with which compiler the CPU's kernels and Triton's launchers would be made."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        path = shutil.which(name) if name else None
        if path is not None:
            return Finding("machine", "compiler", path, Verdict.OK)
    advice = "install g++: without it the engine runs in plain PyTorch on a CPU, and not on a GPU"
    return Finding("machine", "compiler", "none", Verdict.WARNING, advice)


def _open_files(most: int) -> Finding:
    is_enough = most == resource.RLIM_INFINITY or most >= _FEW_FILES
    told = "no limit" if most == resource.RLIM_INFINITY else f"at most {most:,}"
    if is_enough:
        return Finding("machine", "open files", told, Verdict.OK)
    advice = f"every client takes one or two: ulimit -Hn {_FEW_FILES * 16}, or LimitNOFILE="
    return Finding("machine", "open files", told, Verdict.WARNING, advice)


def _cpu_features() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = set(value.split())
            return [feature for feature in _CPU_FEATURES if feature in flags]
    return []
