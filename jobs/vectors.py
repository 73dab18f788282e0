"""Vectors of prompts on their way from the engine: float32, little-endian. Knows no model."""

import struct
from collections.abc import Sequence


def pack(vector: Sequence[float]) -> bytes:
    """Return a vector's bytes."""
    return struct.pack(f"<{len(vector)}f", *vector)


def unpack(data: bytes) -> list[float]:
    """Return the vector of some bytes; each number is a float32 as Python writes it."""
    return list(struct.unpack(f"<{len(data) // 4}f", data))
