"""What `doctor` says of the data directory: whether what makes a job safe works there.

Everything rests on fsync, exclusive links and locks that all machines see: each is tried with a
file that is removed again. Where there is no directory yet, none is made.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..jobs.durable import fsync_directory
from ..jobs.settings import Settings
from .findings import Finding, Verdict

_MOUNTS = Path("/proc/self/mountinfo")
_LITTLE_DISK_GB = 5
_LITTLE_SHARE = 0.1
_FEW_INODES = 100_000
_SLOW_FSYNC_S = 0.1
_MEMORY = frozenset({"tmpfs", "ramfs"})
_NETWORK = frozenset({"nfs", "nfs4"})


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system of a path."""

    point: str
    kind: str
    options: frozenset[str]


def data_directory(settings: Settings) -> Iterator[Finding]:
    """Tell where jobs lie, whether that is safe, and how much room is left."""
    directory = settings.data_dir
    if directory.exists():
        yield written(directory)
    else:
        yield _would_be_made(directory)
    there = _nearest(directory)
    mount = mount_of(there)
    if mount is not None:
        yield judged_mount(mount)
    yield from room(there)


def written(directory: Path) -> Finding:
    """Try in a directory what a job's files need."""
    where = str(directory)
    try:
        took_s = _try_out(directory)
    except OSError as error:
        doing = error.strerror or str(error)
        advice = "give this user a directory on a file system with fsync, hard links and flock: "
        advice += "PENSTOCK_DATA"
        told = f"{where} cannot be written as jobs need it ({doing})"
        return Finding("data", "directory", told, Verdict.FAILURE, advice)
    told = f"{where}, a file is safe after {took_s * 1000:.1f} ms"
    if took_s <= _SLOW_FSYNC_S:
        return Finding("data", "directory", told, Verdict.OK)
    advice = "every shard waits for that: a faster disk, or larger shards"
    return Finding("data", "directory", told, Verdict.WARNING, advice)


def mount_of(path: Path, mounts: Path = _MOUNTS) -> Mount | None:
    """Find the mount that a path lies on, as Linux tells it; None elsewhere."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best: Mount | None = None
    for line in lines:
        ours, _, theirs = line.partition(" - ")
        point = ours.split()[4].replace("\\040", " ")
        kind, _, super_options = theirs.split()[:3]
        is_above = path == Path(point) or Path(point) in path.parents
        if is_above and (best is None or len(point) >= len(best.point)):
            options = {*ours.split()[5].split(","), *super_options.split(",")}
            best = Mount(point, kind, frozenset(options))
    return best


def judged_mount(mount: Mount) -> Finding:
    """Judge a file system by what it is known to keep, or not to."""
    told = f"{mount.kind} at {mount.point}"
    has_own_locks = {"nolock", "local_lock=all", "local_lock=flock"} & mount.options
    if mount.kind in _MEMORY:
        advice = "jobs and results are gone with the machine's next start: choose a disk"
        return Finding("data", "file system", told, Verdict.WARNING, advice)
    if mount.kind in _NETWORK and has_own_locks:
        advice = "other machines do not see its locks: mount it without nolock and local_lock"
        told = f"{told} with {min(has_own_locks)}"
        return Finding("data", "file system", told, Verdict.FAILURE, advice)
    if mount.kind.startswith("fuse."):
        advice = "make sure that it keeps fsync, links and flock across machines; S3 behind FUSE "
        advice += "does not. For rows in S3 there is PENSTOCK_RESULTS"
        return Finding("data", "file system", told, Verdict.WARNING, advice)
    if mount.kind == "overlay":
        advice = "in a container it is gone with the container: mount a volume there"
        return Finding("data", "file system", told, Verdict.WARNING, advice)
    return Finding("data", "file system", told, Verdict.OK)


def room(where: Path) -> Iterator[Finding]:
    """Tell how many bytes and files there is room for."""
    found = os.statvfs(where)
    free_gb = found.f_bavail * found.f_frsize / 1e9
    share = found.f_bavail / max(found.f_blocks, 1)
    told = f"{free_gb:,.1f} GB free at {where}, {share:.0%} of all"
    advice = "`penstock delete JOB` removes ended jobs; PENSTOCK_RESULTS puts rows elsewhere"
    if free_gb < _LITTLE_DISK_GB:
        yield Finding("data", "room", told, Verdict.FAILURE, advice)
    elif share < _LITTLE_SHARE:
        yield Finding("data", "room", told, Verdict.WARNING, advice)
    else:
        yield Finding("data", "room", told, Verdict.OK)
    if found.f_files and found.f_favail < _FEW_INODES:
        few = f"{found.f_favail:,} of {found.f_files:,} left"
        advice = "a job takes a file for each shard of 64 to 256 rows"
        yield Finding("data", "inodes", few, Verdict.WARNING, advice)
    elif found.f_files:
        yield Finding("data", "inodes", f"{found.f_favail:,} left", Verdict.OK)


def _would_be_made(directory: Path) -> Finding:
    there = _nearest(directory)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding("data", "directory", f"{directory} is not there yet, and can be made")
    advice = "make it, and give it to this user, or name another: PENSTOCK_DATA"
    told = f"{directory} cannot be made: {there} is not this user's to write"
    return Finding("data", "directory", told, Verdict.FAILURE, advice)


def _try_out(directory: Path) -> float:
    """Write, sync, link and lock a file as a job's are; return how long until it was safe."""
    first = directory / f".doctor-{secrets.token_hex(8)}"
    second = first.with_suffix(".linked")
    try:
        started_s = time.perf_counter()
        descriptor = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"penstock")
            os.fsync(descriptor)
            os.link(first, second)
            fsync_directory(directory)
            took_s = time.perf_counter() - started_s
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
    return took_s


def _nearest(path: Path) -> Path:
    """Find the nearest directory above a path that is there."""
    while not path.exists():
        path = path.parent
    return path
