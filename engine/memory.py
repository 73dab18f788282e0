"""How much memory this process may still take. Knows the system's files, takes nothing."""

import os
from pathlib import Path

_ROOT = Path("/")
_CGROUPS = (
    # directory, limit, usage, what of the usage is a cache that gives way
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def available_bytes(root: Path = _ROOT) -> int:
    """Return what the machine has left, or the container if that is less."""
    left = [_left_in_cgroup(root / directory, *names) for directory, *names in _CGROUPS]
    return min([_left_in_machine(root), *(one for one in left if one is not None)])


def _left_in_machine(root: Path) -> int:
    """Return what can be had without swapping, file caches that would give way included."""
    kibibytes = _table(root / "proc/meminfo").get("MemAvailable:")
    if kibibytes is not None:
        return kibibytes * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # not Linux


def _left_in_cgroup(directory: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    """Return what a container's limit leaves; None where there is no limit."""
    try:
        most = int((directory / limit).read_text("ascii"))
        used = int((directory / usage).read_text("ascii"))
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return max(0, most - used + _table(directory / "memory.stat").get(reclaimable, 0))


def _table(path: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines begin with a name and a number."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
