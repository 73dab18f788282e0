"""What can be told of a job or a run without asking the server. Knows the record, and no client."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from ..jobs.model import JobState
from .records import JobRecord, Usage
from .workflow_records import RunRecord

if TYPE_CHECKING:
    from .board import Board

Record = TypeVar("Record", JobRecord, RunRecord)


class RecordFacts(ABC, Generic[Record]):
    """A job or a run as it stood when last looked at; `refresh` looks again."""

    def __init__(self, record: Record) -> None:
        self.record = record

    @property
    def id(self) -> str:
        """The id, as in `job_01K3…` or `run_01K3…`."""
        return self.record.id

    @property
    def name(self) -> str | None:
        """The name it was given."""
        return self.record.name

    @property
    def status(self) -> JobState:
        """Where it stands; compares equal to plain strings."""
        return self.record.status

    @property
    def status_reason(self) -> str | None:
        """Why it stands where it does, a code first: `error_rate: 12 of 100 rows failed ...`."""
        return self.record.status_reason

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.record.status.is_final

    @property
    def usage(self) -> Usage:
        """Tokens read and written so far."""
        return self.record.usage

    @property
    def created_at(self) -> datetime | None:
        """When it was accepted."""
        return self.record.created_at

    @property
    def output_path(self) -> str | None:
        """The directory, on the server's machine, with the rows and `_manifest.json`."""
        return self.record.output_path

    @contextmanager
    def _looked_at(
        self, on_look: Callable[[Record], None], *, progress: bool
    ) -> Iterator[Callable[[Record], None]]:
        """Give whom to tell of each look while it is waited for; with `progress` it is drawn.

        It is remembered first, also for whoever stops waiting before the end.
        """

        with self._board() if progress else nullcontext() as board:

            def look(record: Record) -> None:
                self.record = record
                if board is not None:
                    board.show(record)
                on_look(record)

            yield look

    @abstractmethod
    def _board(self) -> "AbstractContextManager[Board[Record]]":
        """Make what draws how far it is."""
