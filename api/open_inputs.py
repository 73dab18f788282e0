"""The caller's rows, whatever they are, opened as bytes to be sent. Knows every kind of them.

The twins for asyncio differ in nothing but who waits: a disk or the web may be slow.
"""

import asyncio
import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from .arrow_files import parquet_pieces
from .client_errors import InvalidInput
from .home_path import at_home
from .hub_files import dataset_pieces, is_dataset, open_hub_file
from .payloads import (
    AsyncJobInput,
    JobInput,
    LazyTable,
    Remote,
    SourceFailed,
    StreamedUpload,
    Upload,
    is_elsewhere,
    is_remote,
)
from .row_lines import async_json_lines, json_lines
from .web_files import open_web_file

_KEPT_IN_MEMORY_BYTES = 16 << 20
_CHUNK_BYTES = 64 << 10


@contextmanager
def open_upload(rows: AsyncJobInput) -> Iterator[Upload | Remote]:
    """Open the rows as bytes for as long as the block lasts, unless the server fetches them.

    What the rows themselves raise while they are sent leaves the block as it is.

    Raises:
        InvalidInput: they cannot be read, or a row has no form in which it can be sent.
        MissingPackage: a package is not installed that these rows need.
    """
    if isinstance(rows, str) and is_remote(rows):
        yield Remote(rows)
        return
    if isinstance(rows, str | Path) and not is_elsewhere(rows):
        path = local_path(rows)
        with open_path(path) as file:
            if path.suffix.lower() == ".gz":
                with _streamed(path.stem, _unzipped(file, path)) as upload:
                    yield upload
                return
            if file.seekable():
                yield Upload(path.name, file)
                return
            pieces = iter(partial(file.read, _CHUNK_BYTES), b"")  # of a pipe, which gives all once
            with _streamed(path.name, pieces) as upload:
                yield upload
        return
    with _opened(rows) as (filename, source), _streamed(filename, source) as upload:
        yield upload


@asynccontextmanager
async def async_open_upload(rows: AsyncJobInput) -> AsyncIterator[Upload | Remote]:
    """Open the rows as `open_upload` does; what takes its time does not hold up anybody else."""
    with ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, open_upload(rows))


@contextmanager
def open_uploads(inputs: Mapping[str, JobInput]) -> Iterator[dict[str, Upload | Remote]]:
    """Open the rows of several inputs, each by its name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(open_upload(rows)) for name, rows in inputs.items()}


@asynccontextmanager
async def async_open_uploads(
    inputs: Mapping[str, JobInput],
) -> AsyncIterator[dict[str, Upload | Remote]]:
    """Open the rows of several inputs, each by its name."""
    with ExitStack() as stack:
        yield {
            name: await asyncio.to_thread(stack.enter_context, open_upload(rows))
            for name, rows in inputs.items()
        }


@contextmanager
def _streamed(
    filename: str, source: Iterator[bytes] | AsyncIterator[bytes]
) -> Iterator[StreamedUpload]:
    with tempfile.SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY_BYTES) as kept:
        try:
            yield StreamedUpload(filename, source, kept)
        except SourceFailed as failed:
            raise failed.error from failed.error.__cause__


@contextmanager
def _opened(rows: Any) -> Iterator[tuple[str, Iterator[bytes] | AsyncIterator[bytes]]]:
    """Give the name of a file with these rows, and its pieces."""
    if isinstance(rows, str):
        with open_hub_file(rows) if rows.startswith("hf://") else open_web_file(rows) as opened:
            yield opened
    elif hasattr(rows, "read"):
        name = getattr(rows, "name", "…")
        raise InvalidInput(f"rows must not be an open file; pass its path: {name!r}")
    elif is_dataset(rows):
        yield dataset_pieces(rows)
    elif _is_tabular(rows):
        yield "rows.parquet", parquet_pieces(rows)
    elif isinstance(rows, LazyTable):
        yield "rows.parquet", parquet_pieces(rows.collect())  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(rows, AsyncIterable):
        yield "rows.jsonl", async_json_lines(rows)
    elif isinstance(rows, Iterable) and not isinstance(rows, Mapping | bytes):
        yield "rows.jsonl", json_lines(rows)
    else:
        raise InvalidInput(
            "rows must be a path, a URL, a table, a data set or several dicts, got "
            f"{type(rows).__name__}"
        )


def _is_tabular(rows: object) -> bool:
    return hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__")


def local_path(rows: str | Path) -> Path:
    """Find the file of this machine that a text names.

    Raises:
        InvalidInput: it can name none, or one elsewhere, of a kind that nobody here can read.
    """
    scheme, mark, _ = str(rows).partition("://")
    if isinstance(rows, Path) or not mark:
        return at_home(rows)
    if scheme.lower() != "file":
        raise InvalidInput(
            f"cannot read rows from {scheme[:20]}://; there are a path, file://, http://, "
            "https://, hf:// and s3://"
        )
    return Path(unquote(urlsplit(rows).path))


def _unzipped(file: IO[bytes], path: Path) -> Iterator[bytes]:
    num_lines = 0
    try:
        with gzip.GzipFile(fileobj=file) as plain:
            for piece in iter(partial(plain.read, _CHUNK_BYTES), b""):
                num_lines += piece.count(b"\n")
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        how_far = f", which was read to its line {num_lines:,}" if num_lines else ""
        raise InvalidInput(f"cannot unpack {path}{how_far}: {error}") from error


def open_path(path: Path) -> IO[bytes]:
    """Open a file, or a pipe; what may never end is refused.

    Raises:
        InvalidInput: it cannot be opened, or is a device.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise InvalidInput(f"cannot read {str(path)[:60]!r}: {error}") from error
    if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and not file.isatty():
        file.close()
        raise InvalidInput(f"cannot read {path}: it is a device; name a file or a pipe")
    return file
