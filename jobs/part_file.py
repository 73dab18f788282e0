"""One landed part as a file: its bytes, checked, and what they say. Knows no job and no shard.

The footer tells what the part adds to its job, and carries a seal over the whole file: Parquet's
own checksums stand for the pages only. Parts of older versions have none, and are believed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from .part_counts import PartCounts
from .seal import BLANK_SEAL, ChecksumMismatch, check_seal, sealed

_COUNTS_KEY = b"penstock.counts"
_RETRY_KEY = b"penstock.retry"
_SEAL_KEY = b"penstock.seal"


class CorruptPart(Exception):
    """A part cannot be read back; the message says which and how."""


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What can be said of a part without its rows. `sha256` is that of the file as it lies.

    `retry` is the last job whose rows have taken places in it.
    """

    counts: PartCounts
    num_bytes: int
    sha256: str
    retry: str | None = None


def footer_fields(counts: PartCounts, retry: str | None = None) -> dict[bytes, bytes]:
    """Return what the writer of a part puts into its footer, at the end."""
    joined = {} if retry is None else {_RETRY_KEY: retry.encode()}
    return joined | {_COUNTS_KEY: msgspec.json.encode(counts), _SEAL_KEY: BLANK_SEAL.encode()}


def sealed_part(data: pa.Buffer) -> bytes:
    """Return the bytes of a finished part, sealed."""
    return sealed(data.to_pybytes())


def read_part(path: Path) -> pa.Table:
    """Read all rows of a part.

    Raises:
        CorruptPart: it is gone, its bytes have changed, or it is not one of ours.
        OSError: the disk does not do its work; the part may be as good as ever.
    """
    data = _checked_bytes(path)
    try:
        return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as error:
        raise CorruptPart(f"cannot read {path}: {error}") from error


def part_counts(path: Path) -> PartCounts:
    """Read what a part adds to its job.

    Raises:
        CorruptPart: as `read_part`.
    """
    return _counts(path, _checked_bytes(path))


def part_facts(path: Path) -> PartFacts:
    """Read what the manifest says of a part.

    Raises:
        CorruptPart: as `read_part`.
    """
    data = _checked_bytes(path)
    counts = _counts(path, data)
    retry = (pq.read_metadata(pa.BufferReader(data)).metadata or {}).get(_RETRY_KEY)
    digest = hashlib.sha256(data).hexdigest()
    return PartFacts(counts, len(data), digest, None if retry is None else retry.decode())


def _checked_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptPart(f"{path} had landed and is gone") from error
    try:
        if not check_seal(path, data):
            metadata = pq.read_metadata(pa.BufferReader(data)).metadata or {}
            if _SEAL_KEY in metadata:
                raise ChecksumMismatch(path)
    except ChecksumMismatch as error:
        raise CorruptPart(str(error)) from error
    except (OSError, pa.ArrowException) as error:
        raise CorruptPart(f"cannot read {path}: {error}") from error
    return data


def _counts(path: Path, data: bytes) -> PartCounts:
    try:
        metadata = pq.read_metadata(pa.BufferReader(data)).metadata or {}
        return msgspec.json.decode(metadata[_COUNTS_KEY], type=PartCounts)
    except (OSError, pa.ArrowException, KeyError, msgspec.MsgspecError) as error:
        raise CorruptPart(f"{path} is not a part that Penstock wrote: {error!r}") from error
