"""A run's progress: a line per step. Knows no server; see `board` for where it is shown."""

import time
from collections import Counter, deque
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from .board import Board, is_paused
from .cards import run_card
from .wording import error_words, short_number, short_time
from .workflow_records import RunRecord, StepRecord

_MARK = {"waiting": "·", "running": "▸", "paused": "‖", "completed": "✓", "failed": "✗"}
_STOPPED = "■"  # before a step that was at work when its run ended
_WINDOW_S = 30.0  # over which rates are told


class RunProgress(Board[RunRecord]):
    """Follows a run: a table on a terminal, a card in a notebook, else lines now and then.

    With `tells_pauses` it says why the run pauses; whoever looks on may be told so otherwise.
    """

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        tells_pauses: bool = True,
    ) -> None:
        super().__init__(console, clock)
        self._tells_pauses = tells_pauses
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, record: RunRecord) -> None:
        """Remember how many tokens there were, and when."""
        now_s = self._clock()
        self._looks.append((now_s, record.usage.completion_tokens))
        while len(self._looks) > 2 and now_s - self._looks[1][0] > _WINDOW_S:
            self._looks.popleft()

    def stage(self, record: RunRecord) -> object:
        """Tell at once where a step begins or ends."""
        return (record.status, *(step.state for step in record.steps))

    def drawing(self, record: RunRecord) -> RenderableType:
        """Draw how far each step is."""
        title = f"{record.id} {record.workflow} {record.status}"
        if record.duration_s is not None:
            title += f" · {short_time(record.duration_s)}"
        table = steps_table(record)
        table.title = Text(title, style="table.title")  # in which nothing is markup
        table.caption, table.caption_justify = Text(self._finer(record)), "left"
        return table

    def line(self, record: RunRecord) -> str:
        """Say how far it is."""
        finer = self._finer(record)
        return progress_line(record) + (f" · {finer}" if finer else "")

    def card(self, record: RunRecord) -> str:
        """Write the card that the run itself has."""
        return run_card(record)

    def _finer(self, record: RunRecord) -> str:
        facts = []
        (first_s, first), (last_s, last) = self._looks[0], self._looks[-1]
        if last > first and last_s > first_s and not record.status.is_final:
            facts.append(f"{short_number((last - first) / (last_s - first_s))} tok/s")
        if self._tells_pauses and is_paused(record) and record.status_reason:
            facts.append(record.status_reason)
        errors: Counter[str] = Counter()
        for step in record.steps:
            errors.update(step.errors_by_code)
        if errors:
            facts.append(f"errors: {error_words(errors)}")
        return " · ".join(facts)


def steps_table(record: RunRecord) -> Table:
    """Draw how far each step is."""
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    has_defaulted = any(step.defaulted for step in record.steps)
    table.add_column("step", no_wrap=True)
    table.add_column("type")
    names = ["in", "out", "dropped", "failed", "defaulted", "cached", "tokens", "shards"]
    if not has_defaulted:
        names.remove("defaulted")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for step in record.steps:
        table.add_row(
            f"{_mark(record, step)} {step.id}",
            step.type,
            *(_number(count) for count in _counts(step, has_defaulted=has_defaulted)),
            _shards(step),
        )
    return table


def progress_line(record: RunRecord) -> str:
    """Say in one line how far a run is."""
    steps = " · ".join(
        f"{_mark(record, step)}{step.id}{_rows(record, step)}" for step in record.steps
    )
    return f"{record.id} {record.status} {steps}"


def _mark(record: RunRecord, step: StepRecord) -> str:
    if record.status.is_final and step.state == "running":
        return _STOPPED
    is_held = is_paused(record) and step.state == "running"
    return _MARK.get("paused" if is_held else step.state, "?")


def _rows(record: RunRecord, step: StepRecord) -> str:
    """Count what has landed; a pause comes before what has failed is counted there."""
    if is_paused(record) and not step.rows_out:
        return ""
    return f" {step.rows_out:,}" + (f" ({step.defaulted:,} defaulted)" if step.defaulted else "")


def _counts(step: StepRecord, *, has_defaulted: bool) -> tuple[int, ...]:
    defaulted = (step.defaulted,) if has_defaulted else ()
    tokens = step.usage.completion_tokens
    return (
        *(step.rows_in, step.rows_out, step.dropped, step.failed),
        *defaulted,
        *(step.cached, tokens),
    )


def _number(count: int) -> str:
    return short_number(count) if count else ""


def _shards(step: StepRecord) -> str:
    return f"{step.shards_done}/{'?' if step.num_shards is None else step.num_shards}"
