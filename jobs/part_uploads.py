"""Files that arrive in parts, in any order, over an hour at most. Knows the file store, no HTTP.

    part-uploads/upload_01K3…/upload.json    what the file will be, and under which id
                              part_….bytes   one part, whole and durable
                              cancelled      nothing more will come
                              completed      the file was made

To complete an upload is to join its parts; done twice, it gives the same file.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from .durable import create_file, fsync_directory, make_directories, storage_errors
from .file_store import FileStore, StoredFile, UnknownFile, new_file_id
from .model import new_job_id

LIFETIME_S = 3_600
MAX_PARTS = 1_024
MAX_PART_BYTES = 64 << 20
_COPY_BYTES = 1 << 20
_UPLOAD_ID = re.compile(r"upload_[0-9A-HJKMNP-TV-Z]{26}")
_PART_ID = re.compile(r"part_[0-9A-HJKMNP-TV-Z]{26}")

logger = logging.getLogger(__name__)

Status = Literal["pending", "completed", "cancelled", "expired"]


class UnknownUpload(LookupError):
    """There is no such upload, or it is another tenant's."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"there is no upload {upload_id[:40]!r}")
        self.upload_id = upload_id


class InvalidUpload(ValueError):
    """The upload cannot do what is asked of it; `param` names what is at fault."""

    def __init__(self, param: str | None, message: str) -> None:
        super().__init__(message)
        self.param = param


class PartUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become a file. Times are seconds since 1970."""

    id: str
    file_id: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int
    file_expires_at: int | None = None
    tenant: str = "default"


class PartUploads:
    """The uploads of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path, files: FileStore) -> None:
        self._directory = directory
        self._files = files

    def begin(
        self,
        *,
        filename: str,
        purpose: str,
        num_bytes: int,
        tenant: str = "default",
        file_expires_at: int | None = None,
    ) -> PartUpload:
        """Begin an upload."""
        now = int(time.time())
        upload = PartUpload(
            id=new_job_id("upload"),
            file_id=new_file_id(),
            filename=filename,
            purpose=purpose,
            bytes=num_bytes,
            created_at=now,
            expires_at=now + LIFETIME_S,
            file_expires_at=file_expires_at,
            tenant=tenant,
        )
        path = self._directory / upload.id
        make_directories(path)
        create_file(path / "upload.json", msgspec.json.encode(upload))
        return upload

    def get(self, upload_id: str, tenant: str) -> tuple[PartUpload, Status]:
        """Return an upload and how it stands.

        Raises:
            UnknownUpload: there is none of this id, or it is another tenant's.
        """
        upload = self._read(upload_id) if _UPLOAD_ID.fullmatch(upload_id) else None
        if upload is None or upload.tenant != tenant:
            raise UnknownUpload(upload_id)
        return upload, self._status(upload)

    def announced(self, tenant: str) -> int:
        """Add up the bytes that a tenant's uploads, which have not ended, are to have."""
        total = 0
        for path in self._directory.glob("upload_*/upload.json"):
            upload = self._read(path.parent.name)
            if upload is not None and upload.tenant == tenant:
                total += upload.bytes if self._status(upload) == "pending" else 0
        return total

    def file(self, upload: PartUpload) -> StoredFile | None:
        """Return the file that an upload has become, if it has."""
        try:
            return self._files.get(upload.file_id, upload.tenant)
        except UnknownFile:
            return None

    @contextmanager
    def writing_part(self, upload: PartUpload) -> Iterator[BinaryIO]:
        """Open a file for one part's bytes, for `keep_part`.

        Raises:
            InvalidUpload: the upload takes no more parts.
            StorageFull: there is no room left.
        """
        self._require_pending(upload)
        directory = self._directory / upload.id
        if len([*directory.glob("part_*.bytes")]) >= MAX_PARTS:
            raise InvalidUpload(None, f"an upload may have at most {MAX_PARTS} parts")
        path = directory / f".{new_job_id('part')}.tmp"
        try:
            with storage_errors(directory), path.open("x+b") as file:
                yield file
        finally:
            path.unlink(missing_ok=True)

    def keep_part(self, upload: PartUpload, file: BinaryIO) -> str:
        """Make what was written a part, durably; return the part's id.

        Raises:
            InvalidUpload: the parts are more than was announced.
        """
        written = Path(file.name)
        others = written.parent.glob("part_*.bytes")
        size = file.seek(0, os.SEEK_END) + sum(path.stat().st_size for path in others)
        if size > upload.bytes:
            raise InvalidUpload(
                "data", f"the parts have {size} bytes, the upload was to have {upload.bytes}"
            )
        part_id = written.stem.removeprefix(".")
        with storage_errors(written.parent):
            file.flush()
            os.fsync(file.fileno())
            written.replace(written.with_name(f"{part_id}.bytes"))
            fsync_directory(written.parent)
        return part_id

    def complete(
        self, upload: PartUpload, part_ids: Sequence[str], md5: str | None = None
    ) -> StoredFile:
        """Join the parts in this order into the file.

        Raises:
            InvalidUpload: a part is unknown or there twice, or the whole is not what was announced.
            StorageFull: there is no room left; the parts stay.
        """
        with self._lock(upload):
            if (done := self.file(upload)) is not None:
                return done
            self._require_pending(upload)
            return self._complete(upload, part_ids, md5)

    def _complete(self, upload: PartUpload, part_ids: Sequence[str], md5: str | None) -> StoredFile:
        paths = [self._part(upload, part_id) for part_id in part_ids]
        if len(set(part_ids)) != len(part_ids):
            raise InvalidUpload("part_ids", "part_ids names a part twice")
        size = sum(path.stat().st_size for path in paths)
        if size != upload.bytes:
            raise InvalidUpload(
                "part_ids", f"the parts have {size} bytes, the upload was to have {upload.bytes}"
            )
        with self._files.writing() as file:
            digest = _join(paths, file)
            if md5 is not None and md5.lower() != digest:
                raise InvalidUpload("md5", f"the parts have the MD5 sum {digest}, not {md5[:64]}")
            stored = self._files.keep(
                file,
                filename=upload.filename,
                purpose=upload.purpose,
                tenant=upload.tenant,
                expires_at=upload.file_expires_at,
                file_id=upload.file_id,
            )
        create_file(self._directory / upload.id / "completed", b"")
        for path in paths:
            path.unlink(missing_ok=True)
        return stored

    def cancel(self, upload: PartUpload) -> None:
        """Take an upload back.

        Raises:
            InvalidUpload: it has ended already.
        """
        self._require_pending(upload)
        create_file(self._directory / upload.id / "cancelled", b"")
        for path in (self._directory / upload.id).glob("part_*.bytes"):
            path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove uploads that ended, or whose time was over, an hour ago; returns how many."""
        num_removed = 0
        for path in self._directory.glob("upload_*"):
            if time.time() - path.stat().st_mtime > 2 * LIFETIME_S:
                shutil.rmtree(path, ignore_errors=True)
                num_removed += 1
        return num_removed

    def _read(self, upload_id: str) -> PartUpload | None:
        """Read what an upload is to become; None if it was swept, or its file is damaged."""
        path = self._directory / upload_id / "upload.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=PartUpload)
        except FileNotFoundError:
            return None
        except (UnicodeDecodeError, msgspec.MsgspecError) as error:
            logger.warning("cannot read %s, which is left out: %s", path, error)
            return None

    @contextmanager
    def _lock(self, upload: PartUpload) -> Iterator[None]:
        """Let one complete an upload at a time; a second one finds it done."""
        with (self._directory / upload.id / "upload.json").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _status(self, upload: PartUpload) -> Status:
        if (self._directory / upload.id / "completed").exists() or self.file(upload) is not None:
            return "completed"
        if (self._directory / upload.id / "cancelled").exists():
            return "cancelled"
        return "expired" if upload.expires_at <= time.time() else "pending"

    def _require_pending(self, upload: PartUpload) -> None:
        status = self._status(upload)
        if status != "pending":
            raise InvalidUpload(None, f"the upload {upload.id} is {status}")

    def _part(self, upload: PartUpload, part_id: str) -> Path:
        path = self._directory / upload.id / f"{part_id}.bytes"
        if not _PART_ID.fullmatch(part_id) or not path.exists():
            raise InvalidUpload("part_ids", f"the upload has no part {part_id[:40]!r}")
        return path


def _join(paths: Sequence[Path], file: BinaryIO) -> str:
    """Write the parts one after the other; return the MD5 sum of the whole."""
    digest = hashlib.md5(usedforsecurity=False)
    for path in paths:
        with path.open("rb") as part:
            while chunk := part.read(_COPY_BYTES):
                digest.update(chunk)
                file.write(chunk)
    return digest.hexdigest()
