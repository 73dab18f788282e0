"""JSON files that tell when a byte of theirs has changed. Knows no file's meaning.

The field `seal` comes last; it holds a digest of all the bytes around it (see `seal`). Files of
older versions have none, and are believed.
"""

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import CorruptJob
from .seal import BLANK_SEAL, ChecksumMismatch, check_seal, sealed

T = TypeVar("T")

DAMAGED = (UnicodeDecodeError, msgspec.MsgspecError, ChecksumMismatch)  # what reading one raises


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


def decode_sealed(path: Path, content: bytes, kind: type[T]) -> T:
    """Read the content of `path` as a record, and hold it against its seal.

    Raises:
        ChecksumMismatch: it has changed.
        UnicodeDecodeError, msgspec.MsgspecError: it is no such record (`DAMAGED` names all three).
    """
    check_sealed(path, content)
    return msgspec.json.decode(content, type=kind)


def read_sealed(path: Path, kind: type[T]) -> T | None:
    """Read the record in a file; None where there is no such file.

    Raises:
        CorruptJob: the file is there, and damaged.
        OSError: the disk does not do its work just now.
    """
    try:
        return decode_sealed(path, path.read_bytes(), kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DAMAGED as error:
        raise CorruptJob(f"cannot read {path}: {error}") from error
