"""A job's progress on a terminal: rows, tokens per second, time left, errors. Knows no server."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ..jobs.model import JobState
from .records import JobRecord

_BAR_WIDTH = 10  # so that all of the line fits into 80 columns


class JobProgress:
    """One line that follows a job; where there is no terminal, a plain line now and then."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.fields[label]}"),
            BarColumn(bar_width=_BAR_WIDTH),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            refresh_per_second=8,
        )
        self._task = self._progress.add_task("", total=None, label="waiting", facts="")
        self._last_look = (-1, False)

    def __enter__(self) -> Self:
        """Show the line."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line as it is."""
        self._progress.stop()

    def show(self, record: JobRecord) -> None:
        """Bring the line up to date."""
        counts = record.counts
        done = counts.succeeded + counts.failed
        if self._console.is_terminal:
            self._progress.update(
                self._task,
                total=counts.total or None,
                completed=done,
                label=f"…{record.id[-6:]} {record.status}",
                facts=progress_facts(record),
            )
            return
        tenth = 10 * done // counts.total if counts.total else 0
        look = (tenth, record.status is JobState.PAUSED)
        if look != self._last_look or record.status.is_final:
            self._last_look = look
            line = f"{record.id} {record.status} {progress_facts(record)}"
            self._console.print(line, soft_wrap=True, highlight=False)


def progress_facts(record: JobRecord) -> str:
    """Say in a few words how far a job is."""
    counts = record.counts
    facts = [f"{counts.succeeded + counts.failed:,}/{counted(counts.total, 'row')}"]
    if record.tokens_per_s and not record.status.is_final:
        facts.append(f"{short_number(record.tokens_per_s)} tok/s")
    if record.eta_s is not None and not record.status.is_final:
        facts.append(f"eta {short_time(record.eta_s)}")
    if counts.failed:
        facts.append(f"{counts.failed:,} failed")
    if counts.rejected:
        facts.append(f"{counts.rejected:,} rejected")
    if record.status is JobState.PAUSED and record.status_reason:
        facts.append(record.status_reason)
    elif record.error:
        facts.append(record.error)
    return " · ".join(facts)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: 1 row, 2 rows."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short_number(value: float) -> str:
    """Write a number with at most three digits before its unit: 950, 61.2k, 1.3M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def short_time(seconds: float) -> str:
    """Write a duration in its two largest units: 42s, 3m 05s, 1h 52m."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours}h {m:02d}m"
    return f"{m}m {s:02d}s" if m else f"{s}s"
