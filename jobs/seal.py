"""A digest that a file carries of its own bytes, so that no flipped byte goes unnoticed.

    ... penstock:sha256:<64 hex digits> ...      64 zeros stand there while the digest is made

Parquet has checksums for its pages, none for their headers and its footer; JSON has none at all.
Knows bytes, and neither of the two: a writer puts `BLANK_SEAL` last of all that it says.
"""

import hashlib
import re
from pathlib import Path

_MARK = b"penstock:sha256:"
_BLANK_DIGEST = b"0" * 64
_DIGEST = re.compile(rb"[0-9a-f]{64}")
BLANK_SEAL = (_MARK + _BLANK_DIGEST).decode()


class ChecksumMismatch(Exception):
    """A file's bytes are not those that were written."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"checksum_mismatch: {path} has changed since it was written")
        self.path = path


def sealed(data: bytes) -> bytes:
    """Return the bytes with their digest in place of the last blank seal."""
    place = data.rindex(_MARK + _BLANK_DIGEST) + len(_MARK)
    digest = hashlib.sha256(data).hexdigest().encode()
    return data[:place] + digest + data[place + len(digest) :]


def check_seal(path: Path, data: bytes) -> bool:
    """Compare the bytes of `path` with their digest; False if they carry none.

    Raises:
        ChecksumMismatch: they have changed.
    """
    mark = data.rfind(_MARK)
    if mark < 0:
        return False
    place = mark + len(_MARK)
    digest = data[place : place + len(_BLANK_DIGEST)]
    hasher = hashlib.sha256(data[:place])
    hasher.update(_BLANK_DIGEST)
    hasher.update(data[place + len(digest) :])
    if not _DIGEST.fullmatch(digest) or hasher.hexdigest().encode() != digest:
        raise ChecksumMismatch(path)
    return True
