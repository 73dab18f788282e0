"""Locks on files, for processes that share a directory. Knows no reason to hold one.

A lock ends with its holder, however that dies; one that is stopped, or hangs on its disk, keeps it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .durable import storage_errors

_RETRY_S = 0.02


@contextmanager
def file_lock(path: Path, *, wait_s: float = 0.0) -> Iterator[int | None]:
    """Hold a file, which is made if need be, for as long as the block lasts.

    Yields a descriptor that appends to it; None if somebody else still holds it after `wait_s`.

    Raises:
        StorageFull: there is no room for the file.
    """
    with storage_errors(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
    try:
        yield descriptor if _take(descriptor, wait_s) else None
    finally:
        os.close(descriptor)


def _take(descriptor: int, wait_s: float) -> bool:
    until_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until_s:
                return False
            time.sleep(_RETRY_S)
