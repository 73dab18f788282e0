"""Which of many digests came before, and how many different ones there were. Knows no things.

Its memory is bounded. When the table is full it keeps, from then on, only digests that end in one
more zero bit: half of them, a fair sample. So counts are exact as long as they are small, and then
off by about one part in a thousand (adaptive sampling; Flajolet, Computing 43, 1990).
"""

from array import array
from hashlib import blake2b
from typing import Any

MAX_SLOTS = 1 << 24  # 12 bytes each
_FIRST_SLOTS = 1 << 12
_FULL = 0.7  # of the slots; beyond it, a search takes long
_ZERO = 1 << 63  # stands for the digest 0, which is how a free slot is written


def digest_of(data: Any) -> int:
    """Digest bytes, or what shows itself as bytes, into 64 bits."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


class DigestTable:
    """Digests, each with the number of who brought it first.

    `max_slots` is a power of two.
    """

    def __init__(self, max_slots: int = MAX_SLOTS) -> None:
        self._max_slots = max_slots
        self._num_kept = 0
        self._num_bits = 0  # that a digest must end in, all of them zero, to be kept
        self._clear(min(_FIRST_SLOTS, max_slots))

    @property
    def is_exact(self) -> bool:
        """Whether all digests have been kept so far."""
        return self._num_bits == 0

    @property
    def num_distinct(self) -> int:
        """How many different digests there were; an estimate unless `is_exact`."""
        return self._num_kept << self._num_bits

    def add(self, digest: int, number: int) -> int | None:
        """Take a digest; return who brought it first, None for the first and where it is not known.

        `number` is below 2**32.
        """
        digest = digest or _ZERO
        if digest & ((1 << self._num_bits) - 1):
            return None
        slot = self._slot_of(digest)
        if self._digests[slot]:
            return self._numbers[slot]
        self._digests[slot], self._numbers[slot] = digest, number
        self._num_kept += 1
        if self._num_kept > self._room:
            self._make_room()
        return None

    def _slot_of(self, digest: int) -> int:
        """Find the slot that holds a digest, or the free one that is to hold it."""
        digests, last = self._digests, len(self._digests) - 1
        slot = digest >> self._shift
        while digests[slot] and digests[slot] != digest:
            slot = (slot + 1) & last
        return slot

    def _clear(self, num_slots: int) -> None:
        self._digests = array("Q", bytes(8 * num_slots))
        self._numbers = array("I", bytes(4 * num_slots))
        self._shift = 64 - (num_slots.bit_length() - 1)
        self._room = int(_FULL * num_slots)

    def _make_room(self) -> None:
        """Take twice the slots, or, where there are no more, keep one of two digests."""
        digests, numbers = self._digests, self._numbers
        self._num_bits += len(digests) == self._max_slots
        self._clear(min(2 * len(digests), self._max_slots))
        self._num_kept = 0
        strange = (1 << self._num_bits) - 1
        for digest, number in zip(digests, numbers, strict=True):
            if digest and not digest & strange:
                slot = self._slot_of(digest)
                self._digests[slot], self._numbers[slot] = digest, number
                self._num_kept += 1
