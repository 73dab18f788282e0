"""How much memory a piece of code needs at its peak, from the kernel's own books."""

from collections.abc import Callable
from pathlib import Path


def peak_growth_mb(work: Callable[[], object]) -> float:
    """Run `work`; return by how much the resident set stood above its beginning, at most."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
    before_kb = _status_kb("VmRSS")
    work()
    return (_status_kb("VmHWM") - before_kb) / 1024


def _status_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
