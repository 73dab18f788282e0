"""Files that are whole or absent, also after a power cut. Knows bytes and paths, no job.

temporary file -> fsync -> rename (the last writer wins)       -> fsync of the directory
                        -> exclusive link (the first one wins) -> fsync of the directory
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROBE_BYTES = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class StorageFull(Exception):
    """The device or the quota behind `path` is full. Nothing was left half-written."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no space left for {path}: free some disk space, then try again")
        self.path = path


def is_disk_trouble(error: Exception) -> bool:
    """Tell a disk that does not do its work just now from bytes, or names, that are not there.

    Arrow raises OSError for damaged files too, but then it has no number.
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)


def may_exist(path: Path) -> bool:
    """Tell whether a file is there, or the disk does not say: it must not be taken for gone."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Tell a full disk from other failures of the block.

    Raises:
        StorageFull: an operation in the block met ENOSPC or EDQUOT.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(path) from error
        raise


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable, as fsync of a file makes its bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Make the bytes of a file durable that somebody else has written, such as a library."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write to an open file, however many calls that takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def make_directories(path: Path) -> None:
    """Make a directory and those above it, each durably; those that are there are left alone.

    Raises:
        StorageFull: there is no room.
    """
    missing = [path, *path.parents]
    while missing and missing[-1].is_dir():
        missing.pop()
    with storage_errors(path):
        for directory in reversed(missing):
            directory.mkdir(exist_ok=True)
            fsync_directory(directory.parent)


def replace_file(path: Path, data: bytes, *, temporary_dir: Path | None = None) -> None:
    """Write a file durably; it replaces an older one of that name in one step.

    `temporary_dir` must be on the same file system.

    Raises:
        StorageFull: there is no room; an older file stays as it was.
    """
    with (
        storage_errors(path),
        _temporary_file(temporary_dir or path.parent, path.name, data) as temporary,
    ):
        temporary.replace(path)
        fsync_directory(path.parent)


def create_file(path: Path, data: bytes, *, temporary_dir: Path | None = None) -> bool:
    """Write a file durably unless it exists: of several writers the first wins, whole.

    Returns whether this call made the file. `temporary_dir` must be on the same file system.

    Raises:
        StorageFull: there is no room, and the file does not exist.
    """
    with (
        storage_errors(path),
        _temporary_file(temporary_dir or path.parent, path.name, data) as temporary,
    ):
        try:
            os.link(temporary, path)
            is_ours = True
        except FileExistsError:
            is_ours = False
        fsync_directory(path.parent)  # whoever linked it may not have come that far
        return is_ours


def has_room(directory: Path) -> bool:
    """Try whether something can be written below a directory just now; nothing stays of it.

    A quota is not seen in the free space of a file system, so only trying tells.
    """
    try:
        make_directories(directory)
        with storage_errors(directory), _temporary_file(directory, "room", bytes(_PROBE_BYTES)):
            return True
    except StorageFull:
        return False


def temporary_files(directory: Path) -> Iterator[Path]:
    """Find what writers left in a directory, who were killed before they gave it a name."""
    return directory.glob(".*.tmp")


@contextmanager
def _temporary_file(directory: Path, name: str, data: bytes) -> Iterator[Path]:
    """Hold `data` fsynced under a name nobody else has; the name is gone afterwards."""
    path = directory / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield path
    finally:
        path.unlink(missing_ok=True)
