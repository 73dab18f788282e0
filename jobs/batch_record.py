"""Batches as they lie on disk: what was asked for, what it became, how it ended. Knows no Redis.

    batches/batch_01K3…/batch.json    what was asked for; never changes
                        checked.json  its lines have been read: the jobs they became, or errors
                        cancelling    somebody wants it cancelled
                        ended.json    how it ended; from here on nothing changes
    open/batch_01K3…                    something is left to do with it
    keys/…                              which batch an idempotency key has made

Each file is written once, durably, and the first writer wins: whoever does a step again finds it
done. A batch without `checked.json` is being validated.
"""

import logging
import re
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import msgspec

from .batch_lines import BatchError
from .durable import create_file, make_directories
from .model import new_job_id

_BATCH_ID = re.compile(r"batch_[0-9A-HJKMNP-TV-Z]{26}")
_Facts = TypeVar("_Facts")

logger = logging.getLogger(__name__)


class UnknownBatch(LookupError):
    """There is no such batch, or it is another tenant's."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id[:40]!r}")
        self.batch_id = batch_id


class BatchStatus(StrEnum):
    """OpenAI's words for how a batch stands."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class BatchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. Times are seconds since 1970, but for the deadline in ms."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    deadline_ms: int
    created_at: int
    output_life_s: int | None = None
    metadata: dict[str, str] | None = None
    tenant: str = "default"
    idempotency_key: str | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What the lines became: a job for each model, or errors."""

    at: int
    num_rows: int
    jobs: list[str] = []
    errors: list[BatchError] = []


class Usage(msgspec.Struct, frozen=True):
    """Tokens of all rows."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended, and the files of what came of it."""

    status: BatchStatus
    at: int
    finalizing_at: int | None = None
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[BatchError] = []
    usage: Usage = Usage()


class Batch:
    """One batch's directory."""

    def __init__(self, directory: Path, spec: BatchSpec) -> None:
        self.spec = spec
        self._path = directory / spec.id

    def checked(self) -> Checked | None:
        """Return what its lines became, if they have been read."""
        return self._read("checked.json", Checked)

    def ended(self) -> Ended | None:
        """Return how it ended, if it has."""
        return self._read("ended.json", Ended)

    def cancelling_at(self) -> int | None:
        """Return since when it is to be cancelled, if it is."""
        return self._read("cancelling", int)

    def write_checked(self, checked: Checked) -> Checked:
        """Note what its lines became; what was noted first stands, and is returned."""
        return self._write("checked.json", checked, Checked)

    def write_ended(self, ended: Ended) -> Ended:
        """Note how it ended; what was noted first stands, and is returned."""
        return self._write("ended.json", ended, Ended)

    def cancel(self) -> None:
        """Note that it is to be cancelled."""
        self._write("cancelling", int(time.time()), int)

    def close(self) -> None:
        """Note that nothing is left to do."""
        (self._path.parent / "open" / self.spec.id).unlink(missing_ok=True)

    def _read(self, name: str, kind: type[_Facts]) -> _Facts | None:
        try:
            return msgspec.json.decode((self._path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None

    def _write(self, name: str, facts: _Facts, kind: type[_Facts]) -> _Facts:
        create_file(self._path / name, msgspec.json.encode(facts))
        return msgspec.json.decode((self._path / name).read_bytes(), type=kind)


class BatchRecords:
    """The batches of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, spec: BatchSpec) -> Batch:
        """Accept a batch, durably; under an idempotency key the first one of that key.

        Whoever was to make that one and died is helped out.
        """
        make_directories(self._directory / "open")
        if spec.idempotency_key is not None:
            note = self._key_note(spec.tenant, spec.idempotency_key)
            make_directories(note.parent)
            create_file(note, spec.id.encode())
            spec = msgspec.structs.replace(spec, id=note.read_text())
        make_directories(self._directory / spec.id)
        create_file(self._directory / "open" / spec.id, b"")
        create_file(self._directory / spec.id / "batch.json", msgspec.json.encode(spec))
        return self._read(spec.id)

    def get(self, batch_id: str, tenant: str) -> Batch:
        """Return a batch.

        Raises:
            UnknownBatch: there is none of this id, it is another tenant's, or cannot be read.
        """
        batch = self._open(batch_id) if _BATCH_ID.fullmatch(batch_id) else None
        if batch is None or batch.spec.tenant != tenant:
            raise UnknownBatch(batch_id)
        return batch

    def list(self, tenant: str) -> "list[Batch]":
        """Return a tenant's batches, newest first."""
        names = sorted((path.name for path in self._directory.glob("batch_*")), reverse=True)
        return [batch for batch in self._opened(names) if batch.spec.tenant == tenant]

    def open(self) -> "list[Batch]":
        """Return all batches with which something is left to do, oldest first."""
        return [*self._opened(sorted(path.name for path in (self._directory / "open").glob("*")))]

    def _opened(self, names: Iterable[str]) -> Iterator[Batch]:
        return (batch for name in names if (batch := self._open(name)) is not None)

    def _open(self, batch_id: str) -> Batch | None:
        try:
            return self._read(batch_id)
        except FileNotFoundError:  # its maker has died on the way; nobody was told of it
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            logger.error("%s cannot be read and is passed over: %s", batch_id, error)
            return None

    def _read(self, batch_id: str) -> Batch:
        data = (self._directory / batch_id / "batch.json").read_bytes()
        return Batch(self._directory, msgspec.json.decode(data, type=BatchSpec))

    def _key_note(self, tenant: str, key: str) -> Path:
        digest = blake2b(f"{tenant}\n{key}".encode(), digest_size=20).hexdigest()
        return self._directory / "keys" / digest


def new_batch_id() -> str:
    """Make an id for a batch; ids sort by time."""
    return new_job_id("batch")
