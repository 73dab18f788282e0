"""How much processor time each part of a stack has used, and how much memory: unlike waiting, these
are the same whoever else is at work on the machine. Knows /proc, and the parts by their command
lines.
"""

import os
from collections import defaultdict
from pathlib import Path

_PARTS = (  # what a command line holds -> the part
    ("engine_child", "engine"),
    ("worker", "worker"),
    ("valkey", "redis"),
    ("redis-server", "redis"),
    (" api", "api"),
)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_by_part() -> dict[str, float]:
    """Return the seconds of processor time of all processes below this one, by part."""
    found: dict[str, float] = defaultdict(float)
    for pid, used_s in _processes().items():
        found[_part(pid)] += used_s
    return found


def pid_of(part: str) -> int:
    """Return the first process of a part below this one."""
    return min(pid for pid in _processes() if _part(pid) == part)


def memory_mb(pid: int) -> dict[str, int]:
    """Read what a process has in memory, and the most it ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    kb = {name: int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM")}
    return {"now": kb["VmRSS"] // 1024, "most": kb["VmHWM"] // 1024}


def _processes() -> dict[int, float]:
    """Return all processes below this one, and what each has used."""
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        used_s[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return {pid: used_s[pid] for pid in parents if _is_below(pid, os.getpid(), parents)}


def _is_below(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while (parent := parents.get(pid)) is not None:
        if parent == ancestor:
            return True
        pid = parent
    return False


def _part(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "other"
    return next((part for mark, part in _PARTS if mark in words), "other")
