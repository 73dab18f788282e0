"""What a power cut would leave: bytes and names that were fsynced, and nothing else.

A file survives as it is if it was fsynced since it last changed, under a name that its directory
was fsynced with; and so up to the root. It is stricter than most file systems are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any
from unittest import mock

Content = tuple[int, int]  # size and time of the last change, ns


class PowerCut:
    """Watches every fsync of this process below `root`; `would_lose` tells what has none."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._contents: dict[int, Content] = {}  # by inode
        self._names: dict[int, dict[str, int]] = {}  # by directory's inode: name -> inode

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for the time of the block."""
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            self._note(descriptor)

        with mock.patch.object(os, "fsync", fsync):
            yield

    def would_lose(self) -> list[str]:
        """Name what is there now and would not be, or not so, after a power cut."""
        return sorted(self._lost_below(self._root))

    def _note(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if S_ISDIR(status.st_mode):
            self._names[status.st_ino] = _names_in(descriptor)
        else:
            self._contents[status.st_ino] = _content_of(status)

    def _lost_below(self, directory: Path) -> Iterator[str]:
        names = self._names.get(directory.stat().st_ino, {})
        for path in directory.iterdir():
            status = path.lstat()
            shown = str(path.relative_to(self._root))
            if names.get(path.name) != status.st_ino:
                yield f"{shown}: its name"
            if S_ISDIR(status.st_mode):
                yield from self._lost_below(path)
            elif S_ISREG(status.st_mode) and not self._is_synced(status):
                yield f"{shown}: its bytes"

    def _is_synced(self, status: os.stat_result) -> bool:
        return self._contents.get(status.st_ino) == _content_of(status)


def _names_in(directory: Any) -> dict[str, int]:
    with os.scandir(directory) as entries:
        return {entry.name: entry.inode() for entry in entries}


def _content_of(status: os.stat_result) -> Content:
    return status.st_size, status.st_mtime_ns
