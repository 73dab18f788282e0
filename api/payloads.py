"""A job's rows as bytes that can be sent, and sent again. Knows no transport.

What the caller holds is read as it is sent, and kept beside (in memory while it is small, then on
disk), so that ten million rows of a generator never sit in memory, and an upload that breaks off
begins again with the rows that the generator cannot give twice:

    first sending     source --- piece ---> wire          a later one     kept ---> wire
                                   \\--> kept

Before a later one the source is read to its end, so that nothing waits for it any more.
"""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, runtime_checkable

from .client_errors import InvalidInput

_CHUNK_BYTES = 64 << 10


@runtime_checkable
class ArrowStream(Protocol):
    """A table by the Arrow C stream protocol: pyarrow, polars, pandas, DuckDB and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the table."""
        ...


@runtime_checkable
class LazyTable(Protocol):
    """A table that is still to be computed, as polars has it."""

    def collect_schema(self) -> object:
        """Tell its columns."""
        ...


JobInput: TypeAlias = str | Path | Iterable[Mapping[str, Any]] | ArrowStream | LazyTable
AsyncJobInput: TypeAlias = JobInput | AsyncIterable[Mapping[str, Any]]


class Upload:
    """An open binary file and the name that tells its format."""

    def __init__(self, filename: str, file: IO[bytes]) -> None:
        self.filename = filename
        self._file = file

    @property
    def num_bytes(self) -> int | None:
        """How many there are, if that is known yet."""
        return self._file.seek(0, os.SEEK_END)

    def rewind(self) -> None:
        """Make ready to be sent from the first byte."""

    async def async_rewind(self) -> None:
        """Make ready to be sent from the first byte."""
        await asyncio.to_thread(self.rewind)

    def pieces(self) -> Iterator[bytes]:
        """Give all bytes."""
        return self._in_file()

    async def async_pieces(self) -> AsyncIterator[bytes]:
        """Give all bytes; whatever takes time to make them does not hold up anybody else."""
        pieces = self._in_file()
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece

    def _in_file(self) -> Iterator[bytes]:
        place = 0
        self._file.seek(place)
        while piece := self._file.read(_CHUNK_BYTES):
            place += len(piece)
            yield piece
            self._file.seek(place)  # whoever took the piece may have had the file elsewhere


class StreamedUpload(Upload):
    """What a source gives, once, kept as it is read.

    `source` may be asynchronous; then only the methods for asyncio can be used.
    """

    def __init__(
        self, filename: str, source: Iterator[bytes] | AsyncIterator[bytes], kept: IO[bytes]
    ) -> None:
        super().__init__(filename, kept)
        self._source = source
        self._has_begun = False
        self._is_whole = False

    @property
    def num_bytes(self) -> int | None:
        """How many there are, once the source has ended."""
        return super().num_bytes if self._is_whole else None

    def rewind(self) -> None:
        """Read one piece, for most inputs are small; after a sending that failed, all of them."""
        while self._read() and self._has_begun:
            pass
        self._has_begun = True

    async def async_rewind(self) -> None:
        """Read one piece; after a sending that failed, all of them."""
        while await self._async_read() and self._has_begun:
            pass
        self._has_begun = True

    def pieces(self) -> Iterator[bytes]:
        """Give what is kept, then what the source still has."""
        yield from self._in_file()
        while piece := self._read():
            yield piece

    async def async_pieces(self) -> AsyncIterator[bytes]:
        """Give what is kept, then what the source still has."""
        async for piece in super().async_pieces():
            yield piece
        while piece := await self._async_read():
            yield piece

    def _read(self) -> bytes:
        if isinstance(self._source, AsyncIterator):
            raise InvalidInput("rows that come asynchronously need an AsyncClient")
        if self._is_whole:
            return b""
        try:
            return self._keep(next(self._source, b""))
        except Exception as error:
            raise SourceFailed(error) from error

    async def _async_read(self) -> bytes:
        if not isinstance(self._source, AsyncIterator):
            return await asyncio.to_thread(self._read)
        if self._is_whole:
            return b""
        try:
            return self._keep(await anext(self._source, b""))
        except Exception as error:
            raise SourceFailed(error) from error

    def _keep(self, piece: bytes) -> bytes:
        self._is_whole = not piece
        self._file.seek(0, os.SEEK_END)  # a sending that broke off left it inside of what is kept
        self._file.write(piece)
        return piece


class SourceFailed(Exception):
    """The caller's own rows raised `error`: no reason to send them again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Remote:
    """Rows in an object store, as in `s3://bucket/rows.parquet`: the server fetches them."""

    url: str


def is_remote(rows: object) -> bool:
    """Whether rows, or a place for them, are in an object store."""
    return isinstance(rows, str) and rows.startswith("s3://")


def is_elsewhere(rows: object) -> bool:
    """Whether rows are on the web or the hub: they are fetched here, and sent on."""
    return isinstance(rows, str) and rows.startswith(("http://", "https://", "hf://"))
