"""JSON files that tell when a byte of theirs has changed. Knows no file's meaning.

The field `seal` comes last; it holds a digest of all the bytes around it (see `seal`). Files of
older versions have none, and are believed.
"""

from pathlib import Path
from typing import Any

import msgspec

from .seal import BLANK_SEAL, ChecksumMismatch, check_seal, sealed


class _Sealed(msgspec.Struct):
    seal: str | None = None


def encode_sealed(record: Any) -> bytes:
    """Write a record as JSON with its seal."""
    fields = {**msgspec.to_builtins(record), "seal": BLANK_SEAL}
    return sealed(msgspec.json.format(msgspec.json.encode(fields)) + b"\n")


def check_sealed(path: Path, content: bytes) -> None:
    """Hold the content of `path` against its seal.

    Raises:
        ChecksumMismatch: it has changed.
        msgspec.MsgspecError: it is not JSON any more.
    """
    if check_seal(path, content):
        return
    try:
        is_known_to_have_one = msgspec.json.decode(content, type=_Sealed).seal is not None
    except UnicodeDecodeError as error:  # msgspec lets it pass as it is
        raise ChecksumMismatch(path) from error
    if is_known_to_have_one:
        raise ChecksumMismatch(path)
