"""A job's input as it lies in its directory: Parquet, one row group per shard. Knows no templates.

row_index    int64     position in the input; lines that were rejected are counted too
custom_id    string    the user's key, null where none was named
row          string    a JSON object of the user's columns

Its footer is sealed, and tells of every shard a checksum and which rows it has, so that bytes that
have rotted are never taken for a prompt, and cost one shard.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from .durable import is_disk_trouble
from .seal import BLANK_SEAL, ChecksumMismatch, check_seal, sealed

SMALL_SHARD_ROWS = 64
LARGE_SHARD_ROWS = 256
LARGE_JOB_ROWS = 100_000  # from here on shards are large
HUGE_SHARD_ROWS = 1024
HUGE_JOB_ROWS = 2_000_000  # and from here on larger still

_REGROUPINGS = ((LARGE_JOB_ROWS, LARGE_SHARD_ROWS), (HUGE_JOB_ROWS, HUGE_SHARD_ROWS))
_SHARDS_KEY = b"penstock.shards"
_SEAL_KEY = b"penstock.seal"
_TAIL_BYTES = 8  # the footer's length and the magic number
_SCHEMA = pa.schema(
    [
        pa.field("row_index", pa.int64(), nullable=False),
        pa.field("custom_id", pa.string()),
        pa.field("row", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class SealedRow:
    """One accepted input row."""

    row_index: int
    custom_id: str | None
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _ShardFacts:
    """What the footer tells of a shard. Rows are runs of neighbours, as (first, how many)."""

    checksum: int
    runs: list[tuple[int, int]]


class CorruptInput(Exception):
    """A sealed input cannot be read back; the message says how."""


class CorruptShard(CorruptInput):
    """One shard of a sealed input cannot be read back; these are its rows."""

    def __init__(self, message: str, row_indexes: list[int]) -> None:
        super().__init__(message)
        self.row_indexes = row_indexes


class SealedInput:
    """Reads shards of a sealed input. Keeps the file open; not for use by several threads."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                has_seal = check_seal(path, _read_footer(file)[1])
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            self._shards = _shard_facts(self._file)
            if self._shards is not None and not has_seal:
                raise ChecksumMismatch(path)
        except ChecksumMismatch as error:
            raise CorruptInput(str(error)) from error
        except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
            if is_disk_trouble(error):
                raise
            raise CorruptInput(f"cannot read the sealed input {path}: {error}") from error
        self.path = path

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return self._file.num_row_groups

    def shard(self, index: int) -> list[SealedRow]:
        """Read the rows of one shard.

        Raises:
            IndexError: there is no such shard.
            CorruptShard: the bytes on disk are not those that were written.
            CorruptInput: the same, and nobody knows which rows these were.
            OSError: the disk does not do its work; the bytes may be as good as ever.
        """
        if not 0 <= index < self.num_shards:
            raise IndexError(f"{self.path} has shards 0 to {self.num_shards - 1}, not {index}")
        facts = self._shards[index] if self._shards is not None else None
        try:
            columns = list(self._file.read_row_group(index).to_pydict().values())
            if facts is not None and _checksum(columns) != facts.checksum:
                raise ChecksumMismatch(self.path)
            return [
                SealedRow(row_index, custom_id, msgspec.json.decode(row))
                for row_index, custom_id, row in zip(*columns, strict=True)
            ]
        except (OSError, ValueError, pa.ArrowException, ChecksumMismatch) as error:
            if is_disk_trouble(error):
                raise
            message = f"cannot read shard {index} of {self.path}: {error}"
            if facts is None:
                raise CorruptInput(message) from error
            raise CorruptShard(message, self.row_indexes(index)) from error

    def row_indexes(self, index: int) -> list[int]:
        """Name the rows of one shard, without reading them if the footer tells.

        Raises:
            CorruptInput: it does not, as in older files, and they cannot be read back.
            OSError: the disk does not do its work.
        """
        if self._shards is None:
            return [row.row_index for row in self.shard(index)]
        runs = self._shards[index].runs
        return [first + i for first, num_rows in runs for i in range(num_rows)]

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


class InputSealer:
    """Writes a sealed input row by row, holding one row group in memory.

    How large shards should be depends on how many rows there are, which is known at the end only:
    unless told, it starts with small ones and regroups when the input turns out to be large. Small
    ones are good, for a shard is what runs again when a worker dies; but until the footer is
    written Arrow keeps some 4 KB of each row group, 160 MB for ten million rows in groups of 256.
    """

    def __init__(self, path: Path, shard_rows: int | None = None) -> None:
        self.path = path
        self.shard_rows = shard_rows or SMALL_SHARD_ROWS
        self.num_rows = 0
        self._regroupings = [] if shard_rows else list(_REGROUPINGS)  # those still to come
        self._pending: list[tuple[int, str | None, str]] = []
        self._shards: list[_ShardFacts] = []
        self._writer = _open_writer(path)

    @property
    def num_shards(self) -> int:
        """How many shards the rows so far make."""
        return -(-self.num_rows // self.shard_rows)

    def add(self, row_index: int, custom_id: str | None, row_json: str) -> None:
        """Append a row."""
        self._pending.append((row_index, custom_id, row_json))
        self.num_rows += 1
        if len(self._pending) == self.shard_rows:
            self._flush()
            if self._regroupings and self.num_rows >= self._regroupings[0][0]:
                self._regroup(self._regroupings.pop(0)[1])

    def close(self) -> None:
        """Write what is left and the footer. The caller makes the file durable."""
        if self._pending:
            self._flush()
        footer = {_SHARDS_KEY: msgspec.json.encode(self._shards), _SEAL_KEY: BLANK_SEAL.encode()}
        self._writer.add_key_value_metadata(footer)
        self._writer.close()
        _seal_footer(self.path)

    def abandon(self) -> None:
        """Give up: close the file as it is, without minding what that does to it."""
        self._regroupings.clear()
        self._pending.clear()
        try:
            self._writer.close()
        except (OSError, pa.ArrowException):
            self._writer.is_open = False  # or its destructor would try to close it again

    def _flush(self) -> None:
        columns = list(zip(*self._pending, strict=True))
        self._writer.write_table(pa.table(columns, schema=_SCHEMA))
        self._shards.append(_ShardFacts(_checksum(columns), _runs(columns[0])))
        self._pending.clear()

    def _regroup(self, shard_rows: int) -> None:
        self._writer.close()
        small_path = self.path.with_suffix(".small")
        self.path.rename(small_path)
        self.shard_rows = shard_rows
        self._writer = _open_writer(self.path)
        self._shards.clear()
        for rows in _batches(small_path, self.shard_rows):
            self._pending = rows
            if len(rows) == self.shard_rows:
                self._flush()
        small_path.unlink()


def _open_writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        _SCHEMA,
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=False,  # of no use here, and they bloat a footer of 40,000 row groups
        write_page_checksum=True,
    )


def _batches(path: Path, num_rows: int) -> Iterator[list[tuple[int, str | None, str]]]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=num_rows):
            yield list(zip(*batch.to_pydict().values(), strict=True))


def _checksum(columns: Sequence[Sequence[Any]]) -> int:
    return zlib.crc32(msgspec.msgpack.encode(columns))


def _runs(row_indexes: Sequence[int]) -> list[tuple[int, int]]:
    """Write ascending numbers as runs of neighbours: one, but for lines that were rejected."""
    runs: list[tuple[int, int]] = []
    for row_index in row_indexes:
        first, num_rows = runs[-1] if runs else (row_index, 0)
        if row_index == first + num_rows:
            runs[-1:] = [(first, num_rows + 1)]
        else:
            runs.append((row_index, 1))
    return runs


def _shard_facts(file: pq.ParquetFile) -> list[_ShardFacts] | None:
    """Read what the footer tells of the shards; None in a file of an older version."""
    metadata = file.metadata.metadata or {}
    if _SEAL_KEY not in metadata and _SHARDS_KEY not in metadata:
        return None
    facts = metadata.get(_SHARDS_KEY, b"")
    return msgspec.json.decode(facts, type=list[_ShardFacts])


def _read_footer(file: BinaryIO) -> tuple[int, bytes]:
    """Return where the footer begins, and all bytes from there on."""
    size = file.seek(0, 2)
    tail_at = file.seek(max(size - _TAIL_BYTES, 0))
    start = max(tail_at - int.from_bytes(file.read(4), "little"), 0)
    file.seek(start)
    return start, file.read()


def _seal_footer(path: Path) -> None:
    with path.open("r+b") as file:
        start, footer = _read_footer(file)
        file.seek(start)
        file.write(sealed(footer))
