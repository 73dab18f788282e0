"""Files that clients have sent, or may fetch: bytes under an id of ours. Knows no HTTP and no job.

    files/file-01K3….json   what the file is; it exists only once the bytes are durable
    files/file-01K3….bytes  the bytes
    files/.….tmp            a file on its way; swept when its writer is long gone

What a client calls its file is kept as text and never becomes part of a path.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from .durable import create_file, fsync_directory, make_directories, storage_errors
from .model import new_job_id

FILE_ID = re.compile(r"file-[0-9A-HJKMNP-TV-Z]{26}")
MAX_NAME_CHARS = 512
OUTPUT_PURPOSE = "batch_output"
_HALF_MADE_AGE_S = 24 * 3600


class UnknownFile(LookupError):
    """There is no such file, or it is another tenant's."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"there is no file {file_id[:40]!r}")
        self.file_id = file_id


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a file. Times are seconds since 1970."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int | None = None
    tenant: str = "default"


def new_file_id() -> str:
    """Make an id for a file; ids sort by time."""
    return new_job_id("file").replace("_", "-", 1)


class FileStore:
    """The files of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, StoredFile] = {}  # a file never changes

    @contextmanager
    def writing(self) -> Iterator[BinaryIO]:
        """Open a file to write bytes into, for `keep`; what is not kept is gone afterwards.

        Raises:
            StorageFull: there is no room left.
        """
        make_directories(self._directory)
        path = self._directory / f".{os.getpid()}.{secrets.token_hex(8)}.tmp"
        try:
            with storage_errors(self._directory), path.open("x+b") as file:
                yield file
        finally:
            path.unlink(missing_ok=True)

    def keep(
        self,
        file: BinaryIO,
        *,
        filename: str,
        purpose: str,
        tenant: str = "default",
        expires_at: int | None = None,
        file_id: str | None = None,
    ) -> StoredFile:
        """Make what was written a file, durably. With an id that is there already, that one stays.

        Raises:
            StorageFull: there is no room left; there is no such file.
        """
        stored = StoredFile(
            id=file_id or new_file_id(),
            filename=filename[:MAX_NAME_CHARS],
            purpose=purpose,
            bytes=file.seek(0, os.SEEK_END),
            created_at=int(time.time()),
            expires_at=expires_at,
            tenant=tenant,
        )
        with storage_errors(self._directory):
            file.flush()
            os.fsync(file.fileno())
            if not self._record(stored.id).exists():  # with its record, the bytes stand as well
                Path(file.name).replace(self._content(stored.id))
                fsync_directory(self._directory)
        create_file(self._record(stored.id), msgspec.json.encode(stored))
        return self.get(stored.id, tenant)

    def get(self, file_id: str, tenant: str) -> StoredFile:
        """Return what is known about a file.

        Raises:
            UnknownFile: there is none of this id, its time is over, or it is another tenant's.
        """
        stored = self._read(file_id) if FILE_ID.fullmatch(file_id) else None
        if stored is None or stored.tenant != tenant or _is_over(stored):
            raise UnknownFile(file_id)
        return stored

    def open(self, file_id: str, tenant: str) -> BinaryIO:
        """Open a file's bytes.

        Raises:
            UnknownFile: see `get`.
        """
        path = self.path(self.get(file_id, tenant))
        try:
            return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
        except FileNotFoundError:
            raise UnknownFile(file_id) from None

    def path(self, stored: StoredFile) -> Path:
        """Return where the bytes lie."""
        return self._content(stored.id)

    def list(self, tenant: str) -> "list[StoredFile]":
        """Return a tenant's files, oldest first."""
        names = [path.stem for path in self._directory.glob("file-*.json")]
        known = {name: self._known.get(name) for name in names}  # other threads list, too
        self._known = {name: stored for name, stored in known.items() if stored is not None}
        found = [stored for name in sorted(names) if (stored := self._read(name)) is not None]
        return [stored for stored in found if stored.tenant == tenant and not _is_over(stored)]

    def delete(self, file_id: str, tenant: str) -> None:
        """Remove a file; whoever reads it reads on.

        Raises:
            UnknownFile: see `get`.
        """
        self._remove(self.get(file_id, tenant).id)

    def sweep(self) -> int:
        """Remove files whose time is over and what dead writers left; returns how many."""
        num_removed = 0
        for path in self._directory.glob("file-*.json"):
            stored = self._read(path.stem)
            if stored is not None and _is_over(stored):
                self._remove(stored.id)
                num_removed += 1
        kept = {path.stem for path in self._directory.glob("file-*.json")}
        for path in (*self._directory.glob(".*.tmp"), *self._directory.glob("file-*.bytes")):
            if path.stem not in kept and _age_s(path) > _HALF_MADE_AGE_S:
                path.unlink(missing_ok=True)
                num_removed += 1
        return num_removed

    def _remove(self, file_id: str) -> None:
        self._known.pop(file_id, None)
        self._record(file_id).unlink(missing_ok=True)
        self._content(file_id).unlink(missing_ok=True)

    def _read(self, file_id: str) -> StoredFile | None:
        stored = self._known.get(file_id)
        if stored is not None and self._record(file_id).exists():
            return stored
        try:
            stored = msgspec.json.decode(self._record(file_id).read_bytes(), type=StoredFile)
        except (FileNotFoundError, UnicodeDecodeError, msgspec.MsgspecError):
            self._known.pop(file_id, None)
            return None
        self._known[file_id] = stored
        return stored

    def _record(self, file_id: str) -> Path:
        return self._directory / f"{file_id}.json"

    def _content(self, file_id: str) -> Path:
        return self._directory / f"{file_id}.bytes"


def _is_over(stored: StoredFile) -> bool:
    return stored.expires_at is not None and stored.expires_at <= time.time()


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return 0.0
