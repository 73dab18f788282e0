"""A multipart upload on its way to disk, in pieces. Knows one large part, and small ones beside it.

The parts may come in any order. The large one goes straight into a file of the caller's; at no time
is more than a megabyte of it in memory.
"""

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import anyio.to_thread
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from .errors import BodyTooLarge, InvalidRequest, OutOfStorage, shown

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_FLUSH_BYTES = 1 << 20
_MAX_PARTS = 16
_MAX_FRAME_BYTES = 64 << 10  # what is around the large part


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Which parts an upload has.

    Attributes:
        file: the large part.
        fields: the small ones.
        required: those of both that must be there.
        max_file_bytes: of the large part.
        max_field_bytes: of each small one.
    """

    file: str = "file"
    fields: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset({"file"})
    max_file_bytes: int | None = None
    max_field_bytes: int = 1024

    @property
    def parts(self) -> str:
        """The parts in words, for messages."""
        return " and ".join(f"`{name}`" for name in [*sorted(self.fields), self.file])


@dataclass(frozen=True, slots=True)
class Upload:
    """What has arrived beside the file's bytes."""

    fields: dict[str, bytes]
    filename: str


def is_multipart(request: Request) -> bool:
    """Whether the body is an upload."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def receive_upload(request: Request, form: Form, file: BinaryIO) -> Upload:
    """Read the whole body, its large part into `file`, which then stands at its beginning.

    Raises:
        InvalidRequest: not multipart, a part is missing, unknown or there twice.
        BodyTooLarge: a part is.
        OutOfStorage: the disk is full, or would be.
    """
    _check_room(request, form, file)
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest("the content-type names no multipart boundary")
    parts = _Parts(form, file)
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


def _check_room(request: Request, form: Form, file: BinaryIO) -> None:
    """Refuse an upload that is announced to be too large, before anything of it is read."""
    declared = request.headers.get("content-length", "")
    if not declared.isdigit():
        return
    rest = os.fstatvfs(file.fileno())
    if int(declared) > rest.f_bavail * rest.f_frsize:
        raise OutOfStorage(f"the upload has {declared} bytes, and the disk has fewer left")
    if form.max_file_bytes is not None and int(declared) > form.max_file_bytes + _MAX_FRAME_BYTES:
        raise _too_large(form.file, form.max_file_bytes)


def _too_large(part: str, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the part `{part}` may hold at most {limit} bytes", param=part)


class _Parts:
    """What the parser has found so far."""

    def __init__(self, form: Form, file: BinaryIO) -> None:
        self._form = form
        self._file = file
        self._filename = ""
        self._fields: dict[str, bytearray] = {}
        self._num_file_bytes = 0
        self._num_parts = 0
        self._part = ""  # the part that is being read
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self.unwritten = bytearray()

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
        self._file.write(self.unwritten)
        self.unwritten.clear()

    def finish(self) -> Upload:
        """Return the upload, if nothing is missing."""
        for name in sorted(self._form.required.difference(self._fields)):
            raise InvalidRequest(
                f"the upload has no part `{name}`; send {self._form.parts}",
                param=name,
                code="missing_required_parameter",
            )
        self._file.flush()
        self._file.seek(0)
        fields = {name: bytes(value) for name, value in self._fields.items()}
        fields.pop(self._form.file, None)
        return Upload(fields, self._filename or "upload")

    def _on_part_begin(self) -> None:
        self._num_parts += 1
        self._disposition = self._header_name = self._header_value = b""
        if self._num_parts > _MAX_PARTS:
            raise InvalidRequest(f"the upload has too many parts; send {self._form.parts}")

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
        is_file = self._part == self._form.file
        if not is_file and self._part not in self._form.fields:
            raise InvalidRequest(
                f"unknown part {shown(self._part)}; send {self._form.parts}",
                code="unknown_parameter",
            )
        if self._part in self._fields:
            raise InvalidRequest(f"the part `{self._part}` is there twice", param=self._part)
        self._fields[self._part] = bytearray()
        if is_file:
            self._filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part != self._form.file:
            field = self._fields[self._part]
            field += data[start:end]
            if len(field) > self._form.max_field_bytes:
                raise _too_large(self._part, self._form.max_field_bytes)
            return
        self.unwritten += data[start:end]
        self._num_file_bytes += end - start
        limit = self._form.max_file_bytes
        if limit is not None and self._num_file_bytes > limit:
            raise _too_large(self._part, limit)
