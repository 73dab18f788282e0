"""Which run an idempotency key has made: a small file for each key. Knows no workflow.

$data/run-keys/<sha256 of tenant and key>    the run's id; `.lock` beside it

As with jobs (see `idempotency`): whoever holds the lock finds that the named run either is whole or
never will be.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import msgspec

from ...durable import make_directories, replace_file
from ...errors import JobBusy, UnknownJob
from ...file_lock import file_lock
from ...settings import Settings
from .run_dir import RunDir

_WAIT_S = 10.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RunKey:
    """One key of one tenant."""

    path: Path
    runs_dir: Path

    @classmethod
    def of(cls, settings: Settings, tenant: str, key: str) -> Self:
        """Name the file of a key."""
        digest = sha256(msgspec.json.encode([tenant, key])).hexdigest()
        return cls(cls.directory(settings) / digest, settings.runs_dir)

    @staticmethod
    def directory(settings: Settings) -> Path:
        """Name where all keys lie."""
        return settings.data_dir / "run-keys"

    @classmethod
    def all(cls, settings: Settings) -> Iterator[Self]:
        """Find all keys."""
        for path in cls.directory(settings).glob("*"):
            if _DIGEST.fullmatch(path.name):
                yield cls(path, settings.runs_dir)

    def made(self) -> str | None:
        """Name the run that the key has made, if it has made one."""
        with suppress(FileNotFoundError, UnknownJob):
            directory = RunDir(self.runs_dir, self.path.read_text(encoding="utf-8"))
            return directory.run_id if directory.spec.exists() else None
        return None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep all others from making a run under this key meanwhile.

        Raises:
            JobBusy: somebody else is making one, and does not come to an end.
            StorageFull: there is no room for its file.
        """
        make_directories(self.path.parent)
        with file_lock(self.path.with_suffix(".lock"), wait_s=_WAIT_S) as held:
            if held is None:
                raise JobBusy("a run under this idempotency key")
            yield

    def bind(self, run_id: str) -> None:
        """Name the run that is going to be made, durably; the lock must be held.

        Raises:
            StorageFull: there is no room.
        """
        replace_file(self.path, run_id.encode())

    def free(self) -> bool:
        """Let the key go if the run that it names is gone; the lock must be held."""
        is_nobodys = self.made() is None
        if is_nobodys:
            self.path.unlink(missing_ok=True)
        return is_nobodys
