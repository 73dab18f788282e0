"""Where progress is shown: drawn on a terminal, a card in a notebook, else a line now and then.

Knows when to show something; what, its subclasses know. Knows no server.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from ..jobs.model import JobState
from .notebook import NotebookOutput, notebook_output
from .records import JobRecord
from .workflow_records import RunRecord

Record = TypeVar("Record", JobRecord, RunRecord)

_CARDS_PER_S = 2.0
_FIRST_LINES_S = 2.0  # between lines; in the long run they become rarer
_LAST_LINES_S = 60.0
_LINES_SHARE = 0.1  # of the time that it has lasted


class Board(ABC, Generic[Record]):
    """Follows a job or a run for as long as a `with` lasts."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._notebook: NotebookOutput | None = None if console else notebook_output()
        self._clock = clock
        self._live = Live(console=self._console, refresh_per_second=8, auto_refresh=True)
        self._since_s = clock()
        self._shown_s = float("-inf")
        self._shown_line = ""
        self._shown_stage: object = None

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._notebook is None and self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave what was drawn as it is."""
        self._live.stop()

    def show(self, record: Record) -> None:
        """Bring what is shown up to date."""
        self.look(record)
        if self._notebook is not None:
            is_due = self._clock() - self._shown_s >= 1 / _CARDS_PER_S
            if is_due or self._is_news(record):
                self._note(record)
                self._notebook.show(self.card(record))
        elif self._console.is_terminal:
            self._live.update(self.drawing(record))
        else:
            line = self.line(record)
            is_due = line != self._shown_line and self._clock() - self._shown_s >= self._quiet_s
            if is_due or self._is_news(record):
                self._note(record)
                self._shown_line = line
                self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    @property
    def _quiet_s(self) -> float:
        lasted_s = self._clock() - self._since_s
        return min(max(_FIRST_LINES_S, _LINES_SHARE * lasted_s), _LAST_LINES_S)

    def _is_news(self, record: Record) -> bool:
        return record.status.is_final or self.stage(record) != self._shown_stage

    def _note(self, record: Record) -> None:
        self._shown_s = self._clock()
        self._shown_stage = self.stage(record)

    def look(self, record: Record) -> None:  # most have nothing to remember
        """Remember what a later look is compared with."""

    @abstractmethod
    def stage(self, record: Record) -> object:
        """Give what is told at once when it changes."""

    @abstractmethod
    def drawing(self, record: Record) -> RenderableType:
        """Draw for a terminal."""

    @abstractmethod
    def line(self, record: Record) -> str:
        """Say it in one line."""

    @abstractmethod
    def card(self, record: Record) -> str:
        """Write it as HTML."""


def is_paused(record: JobRecord | RunRecord) -> bool:
    """Whether it stands still until somebody resumes it."""
    return record.status is JobState.PAUSED
