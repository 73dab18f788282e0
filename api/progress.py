"""A job's progress: rows, rates, time left, errors. Knows no server; see `board` for where."""

import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .board import Board, is_paused
from .cards import job_card
from .eta import Eta, EtaGauge
from .records import JobRecord
from .wording import finer_facts, progress_facts

_BAR_WIDTH = 10  # so that all of the line fits into 80 columns


class JobProgress(Board[JobRecord]):
    """Follows a job: a bar on a terminal, a card in a notebook, else lines now and then."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, clock)
        self._gauge = EtaGauge(clock)
        self._eta: Eta | None = None

    def look(self, record: JobRecord) -> None:
        """Remember how far it was, and when."""
        if is_paused(record):
            self._gauge.forget()
            self._eta = None
            return
        counts = record.counts
        done = counts.succeeded + counts.failed
        self._eta = self._gauge.look(done, counts.total - done, record.eta_s)

    def stage(self, record: JobRecord) -> object:
        """Tell at once that it pauses, and that it goes on."""
        return is_paused(record)

    def drawing(self, record: JobRecord) -> RenderableType:
        """Draw a line with a bar, and one below where there is more to say."""
        counts = record.counts
        done = counts.succeeded + counts.failed
        line = Table.grid(padding=(0, 1))
        line.add_row(
            Text(f"…{record.id[-6:]} {record.status}", no_wrap=True),
            ProgressBar(counts.total or None, done, width=_BAR_WIDTH),
            Text(f"{100 * done / counts.total if counts.total else 0:>3.0f}%", style="magenta"),
            Text(progress_facts(record), no_wrap=True, overflow="ellipsis"),
        )
        why = record.status_reason if is_paused(record) else None  # the line may have cut it off
        finer = " · ".join(filter(None, (why, finer_facts(record, self._eta))))
        return Group(line, Text(f"  {finer}", style="dim")) if finer else line

    def line(self, record: JobRecord) -> str:
        """Say how far it is."""
        words = [record.id, str(record.status), progress_facts(record, self._eta)]
        finer = finer_facts(record)
        return " ".join(words) + (f" · {finer}" if finer else "")

    def card(self, record: JobRecord) -> str:
        """Write the card that the job itself has, and how sure its time left is."""
        return job_card(record, self._eta)
