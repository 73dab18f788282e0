"""How far a dry run is, on a terminal; where there is none, nothing. Knows no server."""

from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

_BAR_WIDTH = 24


class ValidationProgress:
    """One line that follows a dry run."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("looking"),
            BarColumn(bar_width=_BAR_WIDTH),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, rows=0)

    def __enter__(self) -> Self:
        """Show the line."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away again."""
        self._progress.stop()

    def show(self, rows: int, share_read: float | None) -> None:
        """Bring the line up to date."""
        total = None if share_read is None else 1.0
        self._progress.update(self._task, total=total, completed=share_read or 0.0, rows=rows)
