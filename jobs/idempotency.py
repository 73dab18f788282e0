"""Which job an idempotency key has made: a small file for each key, and its lock. Knows no Redis.

$data/idempotency/<sha256 of tenant and key>    which job, as JSON

lock -> is the named job sealed? then that is the one -> else name ours, durably -> seal -> unlock

A lock ends with its holder, however that dies. So whoever holds it knows that the named job either
is whole or never will be, and of all that make jobs under one key only one comes to an end.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import msgspec

from .durable import fsync_directory, make_directories, storage_errors, write_all
from .errors import CorruptJob, UnknownJob
from .job_dir import JobDir
from .sealed_json import DAMAGED, decode_sealed, encode_sealed
from .settings import Settings

_MAX_BYTES = 4_096


class _Binding(msgspec.Struct, frozen=True):
    job_id: str


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """One key of one tenant."""

    path: Path
    jobs_dir: Path

    @classmethod
    def of(cls, settings: Settings, tenant: str, key: str) -> Self:
        """Name the file of a key."""
        return cls(_directory(settings) / _digest(tenant, key), settings.jobs_dir)

    @classmethod
    def all(cls, settings: Settings) -> Iterator[Self]:
        """Find the keys that have a file."""
        if _directory(settings).is_dir():
            for path in sorted(_directory(settings).iterdir()):
                yield cls(path, settings.jobs_dir)

    def made(self) -> JobDir | None:
        """Return the job that the key has made. While it is making one, this waits."""
        if not self.path.exists():
            return None
        with self.lock() as held:
            return held.made()

    @contextmanager
    def lock(self) -> Iterator["HeldKey"]:
        """Keep all others from this key meanwhile.

        Raises:
            StorageFull: there is no room for its file.
        """
        make_directories(self.path.parent)
        descriptor = self._locked()
        try:
            yield HeldKey(self, descriptor)
        finally:
            os.close(descriptor)

    def _locked(self) -> int:
        while True:
            with storage_errors(self.path):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(self.path, flags, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self._is_at(descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # whoever had it removed the file: the next one has another lock

    def _is_at(self, descriptor: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        return False


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key whose lock is held."""

    _key: IdempotencyKey
    _descriptor: int

    def made(self) -> JobDir | None:
        """Return the job that the key has made."""
        try:
            job_dir = self._named()
        except DAMAGED:
            return _made_on_disk(self._key)
        return job_dir if job_dir is not None and job_dir.spec.exists() else None

    def bind(self, job_id: str) -> None:
        """Name the job that is going to be made, durably: before it is sealed.

        Raises:
            StorageFull: there is no room.
        """
        with storage_errors(self._key.path):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            write_all(self._descriptor, encode_sealed(_Binding(job_id)))
            os.fsync(self._descriptor)
            fsync_directory(self._key.path.parent)

    def free(self) -> None:
        """Forget which job it was."""
        self._key.path.unlink(missing_ok=True)

    def is_nobodys(self) -> bool:
        """Tell whether it names a job that is not there, or none. One that is damaged may not."""
        try:
            job_dir = self._named()
        except DAMAGED:
            return False
        return job_dir is None or not job_dir.path.exists()

    def _named(self) -> JobDir | None:
        content = os.pread(self._descriptor, _MAX_BYTES, 0)
        if not content:
            return None  # it was locked and never bound
        binding = decode_sealed(self._key.path, content, _Binding)
        return JobDir(self._key.jobs_dir, binding.job_id)


def _made_on_disk(key: IdempotencyKey) -> JobDir | None:
    """Find the job of a key whose file is damaged. It reads every job's spec."""
    for job_dir in JobDir.all(key.jobs_dir):
        with suppress(CorruptJob, UnknownJob):  # nobody can say what made those
            spec = job_dir.read_spec()
            made_by = spec.idempotency_key
            if made_by is not None and _digest(spec.tenant, made_by) == key.path.name:
                return job_dir
    return None


def _directory(settings: Settings) -> Path:
    return settings.data_dir / "idempotency"


def _digest(tenant: str, key: str) -> str:
    return sha256(msgspec.json.encode([tenant, key])).hexdigest()
