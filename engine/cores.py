"""How many CPU cores this process may keep busy. Knows the system's files, sets nothing."""

import os
from math import ceil
from pathlib import Path

_SYSTEM = Path("/sys")


def usable_cores(system: Path = _SYSTEM) -> int:
    """Return the cores this process may use: its affinity, without hyperthreads, within its quota.

    `OMP_NUM_THREADS`, where set, has the last word, as it has for PyTorch.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return os.cpu_count() or 1
    siblings = {_siblings(system, cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(siblings), _quota(system)))


def _siblings(system: Path, cpu: int) -> str:
    """Return a name shared by the hyperthreads of one core."""
    try:
        topology = system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        return topology.read_text("ascii").strip()
    except OSError:
        return str(cpu)


def _quota(system: Path) -> int:
    """Return the container's limit, rounded up to whole cores."""
    try:
        limit, period = (system / "fs/cgroup/cpu.max").read_text("ascii").split()
        return ceil(int(limit) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return os.cpu_count() or 1
