"""Batches as they lie on disk: what was asked for, what it became, how it ended. Knows no Redis.

    batches/batch_01K3…/batch.json    what was asked for; never changes
                        checked.json  its lines have been read: the jobs they became, or errors
                        cancelling    somebody wants it cancelled
                        ended.json    how it ended; from here on nothing changes
                        announced     whoever wants to know of its end will be told

Each file is written once, durably, and the first writer wins: whoever does a step again finds it
done. A batch without `checked.json` is being validated, one without `announced` is open.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from .batch_lines import BatchError
from .durable import create_file, fsync_directory, storage_errors
from .model import new_job_id

_BATCH_ID = re.compile(r"batch_[0-9A-HJKMNP-TV-Z]{26}")
_Facts = TypeVar("_Facts")


class UnknownBatch(LookupError):
    """There is no such batch, or it is another tenant's."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id[:40]!r}")
        self.batch_id = batch_id


class BatchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. Times are seconds since 1970, but for the deadline in ms.

    `output_file_id` and `error_file_id` are what its files will be called, if it has any.
    """

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    deadline_ms: int
    created_at: int
    output_file_id: str
    error_file_id: str
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
    """How it ended: completed, failed, expired or cancelled."""

    status: str
    at: int
    finalizing_at: int | None = None
    completed: int = 0
    failed: int = 0
    has_output: bool = False
    has_errors: bool = False
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

    def note_announced(self) -> None:
        """Note that whoever wants to know of its end will be told."""
        self._write("announced", True, bool)

    def _read(self, name: str, kind: type[_Facts]) -> _Facts | None:
        try:
            return msgspec.json.decode((self._path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None

    def _write(self, name: str, facts: _Facts, kind: type[_Facts]) -> _Facts:
        create_file(self._path / name, msgspec.json.encode(facts))
        standing = self._read(name, kind)
        assert standing is not None
        return standing


class BatchRecords:
    """The batches of an installation, in one directory that all API processes share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, spec: BatchSpec) -> Batch:
        """Accept a batch, durably."""
        path = self._directory / spec.id
        with storage_errors(self._directory):
            path.mkdir(parents=True)
            fsync_directory(self._directory)
        create_file(path / "batch.json", msgspec.json.encode(spec))
        return Batch(self._directory, spec)

    def get(self, batch_id: str, tenant: str) -> Batch:
        """Return a batch.

        Raises:
            UnknownBatch: there is none of this id, or it is another tenant's.
        """
        batch = self._open(batch_id) if _BATCH_ID.fullmatch(batch_id) else None
        if batch is None or batch.spec.tenant != tenant:
            raise UnknownBatch(batch_id)
        return batch

    def list(self, tenant: str) -> "list[Batch]":
        """Return a tenant's batches, newest first."""
        return [batch for batch in self._all() if batch.spec.tenant == tenant]

    def open(self) -> "list[Batch]":
        """Return all batches with which something is left to do, oldest first."""
        is_open = (
            path.name
            for path in sorted(self._directory.glob("batch_*"))
            if not (path / "announced").exists()
        )
        return [batch for name in is_open if (batch := self._open(name)) is not None]

    def made_by(self, tenant: str, idempotency_key: str) -> Batch | None:
        """Return the batch that a key has made."""
        made = (each for each in self.list(tenant) if each.spec.idempotency_key == idempotency_key)
        return next(made, None)

    def _all(self) -> Iterator[Batch]:
        for path in sorted(self._directory.glob("batch_*"), reverse=True):
            batch = self._open(path.name)
            if batch is not None:
                yield batch

    def _open(self, batch_id: str) -> Batch | None:
        try:
            data = (self._directory / batch_id / "batch.json").read_bytes()
        except FileNotFoundError:  # its maker has died on the way; nobody was told of it
            return None
        return Batch(self._directory, msgspec.json.decode(data, type=BatchSpec))


def new_batch_id() -> str:
    """Make an id for a batch; ids sort by time."""
    return new_job_id("batch")
