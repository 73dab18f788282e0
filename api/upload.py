"""A multipart upload on its way to disk, in pieces. Knows two parts: `request` and `file`.

The parts may come in any order. `file` goes to an unnamed file in the data directory, so that
nothing stays behind whatever happens; at no time is more than a megabyte of it in memory.
"""

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import anyio.to_thread
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from .bodies import MAX_JSON_BYTES
from .errors import BodyTooLarge, InvalidRequest, OutOfStorage

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_FLUSH_BYTES = 1 << 20
_MAX_PARTS = 8


@dataclass(frozen=True, slots=True)
class Upload:
    """A finished upload. `file` stands at its beginning; `close` forgets it."""

    request: bytes
    file: BinaryIO
    filename: str

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def is_multipart(request: Request) -> bool:
    """Whether the body is an upload."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def receive_upload(request: Request, directory: Path) -> Upload:
    """Read the whole body; the file ends up under `directory`, without a name.

    Raises:
        InvalidRequest: not multipart, a part is missing, unknown or there twice.
        OutOfStorage: the disk is full, or would be.
    """
    directory.mkdir(parents=True, exist_ok=True)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > shutil.disk_usage(directory).free:
        raise OutOfStorage(f"the upload has {declared} bytes, and the disk has fewer left")
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest("the content-type names no multipart boundary")
    parts = _Parts(tempfile.TemporaryFile(dir=directory))  # noqa: SIM115 (the Upload closes it)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            if len(parts.unwritten) >= _FLUSH_BYTES:
                await anyio.to_thread.run_sync(parts.flush)
        parser.finalize()
        await anyio.to_thread.run_sync(parts.flush)
        return parts.finish()
    except MultipartParseError as error:
        raise InvalidRequest(f"the multipart body cannot be read: {error}") from None
    except ClientDisconnect:
        raise InvalidRequest("the connection closed before the upload had ended") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfStorage("the disk is full; nothing of this upload was kept") from None
        raise
    finally:
        if not parts.is_finished:
            parts.file.close()


class _Parts:
    """What the parser has found so far."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.filename: str | None = None
        self._request = bytearray()
        self._num_parts = 0
        self._seen: set[str] = set()
        self._part = ""  # the part that is being read
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self.unwritten = bytearray()
        self.is_finished = False

    def callbacks(self) -> "MultipartCallbacks":
        """Return what the parser calls."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
        }

    def flush(self) -> None:
        """Write what has gathered of the file."""
        self.file.write(self.unwritten)
        self.unwritten.clear()

    def finish(self) -> Upload:
        """Return the upload; from here on it owns the file."""
        for name in ("request", "file"):
            if name not in self._seen:
                raise InvalidRequest(
                    f"the upload has no part {name!r}; send `request` (JSON) and `file`",
                    param=name,
                    code="missing_required_parameter",
                )
        self.file.flush()
        self.file.seek(0, os.SEEK_SET)
        self.is_finished = True
        return Upload(bytes(self._request), self.file, self.filename or "upload")

    def _on_part_begin(self) -> None:
        self._num_parts += 1
        self._disposition = self._header_name = self._header_value = b""
        if self._num_parts > _MAX_PARTS:
            raise InvalidRequest("the upload has too many parts; send `request` and `file`")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part not in ("request", "file"):
            raise InvalidRequest(
                f"unknown part {self._part[:40]!r}; send `request` (JSON) and `file`",
                code="unknown_parameter",
            )
        if self._part in self._seen:
            raise InvalidRequest(f"the part {self._part!r} is there twice", param=self._part)
        self._seen.add(self._part)
        if self._part == "file":
            # Only the suffix of this name is ever used, to tell the format.
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self.unwritten += data[start:end]
            return
        self._request += data[start:end]
        if len(self._request) > MAX_JSON_BYTES:
            raise BodyTooLarge(f"the part `request` may hold at most {MAX_JSON_BYTES} bytes")
