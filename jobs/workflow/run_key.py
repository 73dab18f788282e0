"""Which run an idempotency key has made: a small file for each key. Knows no workflow.

$data/run-keys/<sha256 of tenant and key>    the run's id; `.lock` beside it

As with jobs (see `idempotency`): whoever holds the lock finds that the named run either is whole or
never will be.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import msgspec

from ..durable import make_directories, replace_file
from ..errors import JobBusy, UnknownJob
from ..file_lock import file_lock
from ..settings import Settings
from .run_dir import RunDir

_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class RunKey:
    """One key of one tenant."""

    path: Path
    runs_dir: Path

    @classmethod
    def of(cls, settings: Settings, tenant: str, key: str) -> Self:
        """Name the file of a key."""
        digest = sha256(msgspec.json.encode([tenant, key])).hexdigest()
        return cls(settings.data_dir / "run-keys" / digest, settings.runs_dir)

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
