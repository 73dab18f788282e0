"""Cuts a file into numbered lines, none longer than can be held. Only standard library."""

from collections.abc import Iterator
from typing import BinaryIO

from .json_elements import BOM


def text_lines(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield stripped lines, numbered from 1; None for one that is too long."""
    line = 0
    while text := file.readline(max_bytes + 1):
        line += 1
        if len(text) > max_bytes and not text.endswith(b"\n"):
            while (rest := file.readline(max_bytes)) and not rest.endswith(b"\n"):
                pass
            yield line, None
        else:  # each of several files that were put together begins with its own mark
            yield line, text.removeprefix(BOM).strip()
