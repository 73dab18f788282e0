"""A run's progress on a terminal: a line per step. Knows no server."""

from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..jobs.model import JobState
from .progress import short_number, short_time
from .workflow_records import RunRecord, StepRecord

_MARK = {"waiting": "·", "running": "▸", "completed": "✓", "failed": "✗"}


class RunProgress:
    """A table that follows a run; where there is no terminal, a plain line now and then."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=8, auto_refresh=True)
        self._told: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        """Show the table."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the table as it is."""
        self._live.stop()

    def show(self, record: RunRecord) -> None:
        """Bring the table up to date."""
        if self._console.is_terminal:
            self._live.update(steps_table(record))
            return
        stage = (record.status, *(step.state for step in record.steps))
        if stage != self._told:
            self._told = stage
            self._console.print(progress_line(record), soft_wrap=True, highlight=False)


def steps_table(record: RunRecord) -> Table:
    """Draw how far each step is."""
    title = f"{record.id} {record.workflow} {record.status}"
    if record.duration_s is not None:
        title += f" · {short_time(record.duration_s)}"
    if record.status is JobState.PAUSED and record.status_reason:
        title += f" · {record.status_reason}"
    table = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
    table.add_column("step", no_wrap=True)
    table.add_column("type")
    for name in ("in", "out", "dropped", "failed", "cached", "tokens", "shards"):
        table.add_column(name, justify="right", no_wrap=True)
    for step in record.steps:
        table.add_row(
            f"{_MARK.get(step.state, '?')} {step.id}",
            step.type,
            *(_number(count) for count in _counts(step)),
            _shards(step),
        )
    return table


def progress_line(record: RunRecord) -> str:
    """Say in one line how far a run is."""
    steps = " · ".join(
        f"{_MARK.get(step.state, '?')}{step.id} {step.rows_out:,}" for step in record.steps
    )
    return f"{record.id} {record.status} {steps}"


def _counts(step: StepRecord) -> tuple[int, ...]:
    tokens = step.usage.completion_tokens
    return step.rows_in, step.rows_out, step.dropped, step.failed, step.cached, tokens


def _number(count: int) -> str:
    return short_number(count) if count else ""


def _shards(step: StepRecord) -> str:
    return f"{step.shards_done}/{'?' if step.num_shards is None else step.num_shards}"
