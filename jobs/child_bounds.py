"""What bounds a process that people's inputs may exhaust: the container goes on without it.

Knows the kernel's files, and of the process no more than how much it may take.
"""

from contextlib import suppress
from pathlib import Path

_MOST_BYTES = 4 << 30
_SHARE = 4  # so that two leave half of a container to who started them
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of cgroups v2 and v1
_LIKELIEST = "1000"


def memory_bound(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many bytes one may take: a quarter of the container's, and 4 GiB at most."""
    bound = _MOST_BYTES
    for name in _LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max": it sets no limit
            bound = min(bound, int((cgroup / name).read_text("ascii")) // _SHARE)
    return bound


def die_first(process: Path = Path("/proc/self")) -> None:
    """Ask the kernel to take this process before any other when memory runs out."""
    with suppress(OSError):  # elsewhere than on Linux, it chooses by itself
        (process / "oom_score_adj").write_text(_LIKELIEST)
