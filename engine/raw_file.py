"""A file read at places of our choice. Knows bytes, and that files can be too short.

It is read, never mapped into memory: a mapped file that somebody shortens kills whoever reads it.
"""

import os
from pathlib import Path
from typing import Self

_PIECE_BYTES = 2**30  # the system reads a little less than 2 GiB at a time


class DamageError(ValueError):
    """What is wrong with the bytes of a file, without the file's name."""


class RawFile:
    """A file open for reading. Use as a context manager.

    Attributes:
        num_bytes: its size when it was opened.

    Raises:
        OSError: there is no such file, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.num_bytes = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        """Return itself, open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def read(self, begin: int, num_bytes: int) -> bytearray:
        """Return the bytes from `begin` on; nothing is allocated that the file does not hold.

        Raises:
            DamageError: the file ends before them.
        """
        if begin + num_bytes > self.num_bytes:
            raise DamageError(
                f"{num_bytes} bytes were to follow at byte {begin} of a file of {self.num_bytes}"
            )
        taken = bytearray(num_bytes)
        self.fill(memoryview(taken), begin)
        return taken

    def fill(self, memory: memoryview, begin: int) -> None:
        """Fill the memory with the bytes from `begin` on.

        Raises:
            DamageError: the file has become shorter since it was opened.
        """
        place = 0
        while place < len(memory):
            piece = memory[place : place + _PIECE_BYTES]
            num_read = os.preadv(self._descriptor, [piece], begin + place)
            if not num_read:
                raise DamageError(f"the file ends at byte {begin + place}, too early")
            place += num_read
