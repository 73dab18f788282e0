"""Rows that have ended in shards that have not landed, so that no death has them computed again.

Knows bytes and one file per shard and engine process, in the job's directory; no engine. Without a
journal all finished rows of an open shard would be lost with the engine, half a shard on average.

    unlanded/INDEX.ATTEMPT.PROCESS.rows     made when the shard's first rows go to the engine
    header, then per row: length and checksum (4 bytes each, big-endian), its samples as msgpack

A record that was cut off, or whose bytes have changed, ends its file: what follows is computed
again. So nothing here is fsynced. Whoever lands the shard removes its files.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from .landing import LandedRow
from .model import ShardRef
from .sealed_input import SealedRow

_HEADER = b"penstock rows 1\n"  # files that begin otherwise are of another version: left alone
_FRAME = struct.Struct(">II")

logger = logging.getLogger(__name__)


class Journal:
    """Keeps the finished rows of one shard in one engine process. `begin` and `close` pair."""

    def __init__(self, jobs_dir: Path, ref: ShardRef, attempt: int) -> None:
        self._jobs_dir = jobs_dir
        self._ref = ref
        self._path = _path(jobs_dir, ref, attempt, os.getpid())
        self._descriptor: int | None = None

    def begin(self) -> None:
        """Open the file, which says that rows of the shard are in the engine from now on."""
        if self._descriptor is not None:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._descriptor = os.open(self._path, flags, 0o644)
            if os.fstat(self._descriptor).st_size == 0:
                os.write(self._descriptor, _HEADER)
        except OSError as error:
            self._give_up(error)

    def append(self, rows: Iterable[Sequence[LandedRow]]) -> None:
        """Keep rows that have ended, each as its samples; a full disk only costs computing."""
        if self._descriptor is None:
            return
        data = b"".join(map(_encode, rows))
        try:
            if os.write(self._descriptor, data) < len(data):
                raise OSError("the record was cut off")
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Forget what any process has kept of the shard: it has landed."""
        self.close()
        for path in _files(self._jobs_dir, self._ref):
            path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        logger.warning("%s: rows that end are not kept: %s", self._path, error)
        self.close()


def was_begun(jobs_dir: Path, ref: ShardRef, attempt: int, process: int) -> bool:
    """Tell whether an engine process had rows of a shard in the engine."""
    return _path(jobs_dir, ref, attempt, process).exists()


def was_ever_begun(jobs_dir: Path, ref: ShardRef, attempt: int) -> bool:
    """Tell whether any engine process had rows of a shard in the engine, in this attempt."""
    return any(_directory(jobs_dir, ref).glob(f"{ref.index}.{attempt}.*.rows"))


def finished_rows(
    jobs_dir: Path, ref: ShardRef, sealed_rows: Iterable[SealedRow]
) -> dict[int, list[LandedRow]]:
    """Read the rows of a shard that need not be computed again: samples by row index."""
    columns = {sealed.row_index: sealed.row for sealed in sealed_rows}
    rows: dict[int, list[LandedRow]] = {}
    for path in _files(jobs_dir, ref):
        with suppress(OSError):  # removed meanwhile: the shard has landed
            for samples in _decode(path.read_bytes()):
                index = samples[0].row_index
                if index in columns and index not in rows:
                    rows[index] = [replace(each, columns=columns[index]) for each in samples]
    return rows


def _path(jobs_dir: Path, ref: ShardRef, attempt: int, process: int) -> Path:
    return _directory(jobs_dir, ref) / f"{ref.index}.{attempt}.{process}.rows"


def _files(jobs_dir: Path, ref: ShardRef) -> list[Path]:
    return sorted(_directory(jobs_dir, ref).glob(f"{ref.index}.*.rows"))


def _directory(jobs_dir: Path, ref: ShardRef) -> Path:
    return jobs_dir / ref.job_id / "unlanded"


def _encode(samples: Sequence[LandedRow]) -> bytes:
    # The user's columns lie in the sealed input already.
    body = msgspec.msgpack.encode([replace(sample, columns={}) for sample in samples])
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _decode(data: bytes) -> Iterator[tuple[LandedRow, ...]]:
    if not data.startswith(_HEADER):
        return
    start = len(_HEADER)
    while start + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, start)
        start += _FRAME.size
        body = data[start : start + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        try:
            samples = msgspec.msgpack.decode(body, type=tuple[LandedRow, ...])
        except msgspec.MsgspecError:
            return
        if samples:
            yield samples
        start += length
